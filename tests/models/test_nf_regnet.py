import pytest

from nfnets import models
from nfnets.models import nf_regnet, scaling
from tests import filled, helpers

PARAMETERS = {
  'nf_regnet_b0': 8_595_372,
  'nf_regnet_b1': 10_019_208,
  'nf_regnet_b2': 13_785_904,
  'nf_regnet_b3': 18_136_667,
  'nf_regnet_b4': 29_315_830,
  'nf_regnet_b5': 48_707_138,
  'nf_regnet_b6': 70_045_805,
  'nf_regnet_b7': 101_743_204,
  'nf_regnet_b8': 142_314_441,
}


def test_every_variant_is_counted():
  assert sorted(PARAMETERS) == sorted(nf_regnet.VARIANTS)


@pytest.mark.parametrize(
  ('name', 'expected'),
  [
    pytest.param(*row, marks=[] if row[0][-1] in '0123' else [pytest.mark.slow])
    for row in PARAMETERS.items()
  ],
)
def test_parameter_count(name, expected):
  assert filled.count(models.create_model(name)) == expected


def test_b0_equals_the_published_network():
  golden = helpers.golden()['reference']['NF_RegNet-B0']
  model = models.create_model('nf_regnet_b0')
  assert filled.names(model) == golden['names']
  filled.assert_golden(filled.logits(model, golden['size']), golden)


def test_plan_of_b0():
  # By hand: 0.75 of the widths, truncated; bottlenecks of 2.25 times the input
  # (1 times in the first block) in whole groups of 8; every stage halves.
  stages = scaling.plan_blocks(models.create_model('nf_regnet_b0').config)
  assert stages[0][0][:5] == (36, 36, 32, 4, 2)
  assert stages[1][0][:5] == (36, 78, 80, 10, 2)
  assert stages[1][1][:5] == (78, 78, 168, 21, 1)
  assert stages[3][0][:5] == (156, 330, 344, 43, 2)


def test_images_are_resized_32_pixels_larger_than_the_test_crop():
  config = models.create_model('nf_regnet_b5').config
  assert (config.train_size, config.test_size) == (384, 456)
  assert round(config.test_size / config.crop_pct) == 488
