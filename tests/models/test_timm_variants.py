import pytest

from nfnets import models
from nfnets.models import timm_variants
from nfnets.weights import timm as timm_layout
from nfnets.weights import tree
from tests import filled, helpers

# Numbers of tensors and parameters in timm 1.0.31.
COUNTS = {
  'nfnet_l0': (221, 35_074_488),
  'eca_nfnet_l0': (185, 24_143_924),
  'eca_nfnet_l1': (341, 41_407_728),
  'eca_nfnet_l2': (497, 56_722_348),
  'eca_nfnet_l3': (653, 72_036_968),
  'test_nfnet': (93, 383_080),
  'timm_nf_regnet_b0': (228, 8_764_288),
  'timm_nf_regnet_b1': (280, 10_223_984),
  'timm_nf_regnet_b2': (306, 14_314_608),
  'timm_nf_regnet_b3': (345, 18_593_832),
  'timm_nf_regnet_b4': (410, 30_210_816),
  'timm_nf_regnet_b5': (514, 49_741_728),
  'timm_nf_resnet26': (89, 15_995_176),
  'timm_nf_resnet50': (161, 25_557_032),
  'timm_nf_resnet101': (314, 44_549_160),
  'timm_nf_seresnet26': (121, 17_395_976),
  'timm_nf_seresnet50': (225, 28_088_024),
  'timm_nf_seresnet101': (446, 49_326_872),
  'timm_nf_ecaresnet26': (97, 15_995_220),
  'timm_nf_ecaresnet50': (177, 25_557_118),
  'timm_nf_ecaresnet101': (347, 44_549_331),
}
GOLDEN = {
  'dm_nfnet_f0@64': (
    'nfnet_f0',
    {'activation': 'gelu_erf', 'ws_epsilon': 'additive'},
  ),
  'nf_resnet50@64': ('timm_nf_resnet50', {}),
  'nf_regnet_b1@64': ('timm_nf_regnet_b1', {}),
}


def test_every_variant_has_counts():
  assert sorted(COUNTS) == sorted(timm_variants.VARIANTS)


@pytest.mark.parametrize(
  ('name', 'expected'),
  [
    pytest.param(*row, marks=[] if row[1][0] < 300 else [pytest.mark.slow])
    for row in COUNTS.items()
  ],
)
def test_counts(name, expected):
  model = models.create_model(name)
  assert (len(filled.names(model)), filled.count(model)) == expected


def _params(model):
  """Returns our parameters with the values of timm's golden run."""
  tensors = filled.timm_tensors(model)
  wanted = tree.flatten(filled.shapes(model))
  return tree.unflatten(timm_layout.from_timm(tensors, wanted, model.config))


@pytest.mark.parametrize(
  'key',
  [
    pytest.param(key, marks=[] if 'nf_res' in key else [pytest.mark.slow])
    for key in GOLDEN
  ],
)
def test_logits_match_timm(key):
  golden = helpers.golden()['timm'][key]
  name, options = GOLDEN[key]
  model = models.create_model(name, **options)
  logits = filled.logits(model, golden['size'], _params(model))
  filled.assert_golden(logits, golden)


def test_last_gains_start_at_zero_without_skip_gains():
  config = models.create_model('nfnet_l0').config
  assert not config.skip_gain
  assert config.skip_gain_init == 0.0
