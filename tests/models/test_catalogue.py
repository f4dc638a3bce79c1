import math

import pytest

from nfnets import models
from nfnets.analysis import macs
from nfnets.models import catalogue
from nfnets.weights import hub, tree

_QUICK = (
  'nfnet_f0',
  'nf_resnet50',
  'nf_regnet_b0',
  'eca_nfnet_l0',
  'test_nfnet',
)


def _count(name):
  model = models.create_model(name)
  config = model.config
  params = tree.expected(config).params
  (features,) = (
    x.shape[0]
    for path, x in params.items()
    if tree.is_head(path) and len(x.shape) == 2
  )
  return catalogue.Row(
    sum(math.prod(x.shape) for x in params.values()),
    len(params),
    features,
    macs.model_macs(model, config.train_size),
    macs.model_macs(model, config.test_size),
  )


@pytest.mark.parametrize('name', _QUICK)
def test_rows_match_recomputed_counts(name):
  assert catalogue.ROWS[name] == _count(name)


@pytest.mark.slow
@pytest.mark.parametrize('name', models.list_models())
def test_all_rows_match_recomputed_counts(name):
  assert catalogue.ROWS[name] == _count(name)


def test_every_model_has_a_row():
  assert list(catalogue.ROWS) == models.list_models()


def test_timm_names():
  assert catalogue.timm_name('nfnet_f0') == 'dm_nfnet_f0'
  assert catalogue.timm_name('nfnet_l0') == 'nfnet_l0'
  assert catalogue.timm_name('timm_nf_regnet_b0') == 'nf_regnet_b0'
  for name in ('nfnet_f7', 'nfnet_f0+', 'nf_resnet50', 'nf_regnet_b1'):
    assert catalogue.timm_name(name) is None
  for name in ('nfnet_f0', 'dm_nfnet_f7', 'resnet50', 'vit_base_patch16_224'):
    assert catalogue.our_name(name) is None


def test_timm_names_invert_to_ours():
  names = list(filter(catalogue.timm_name, models.list_models()))
  assert len(names) == 28
  for name in names:
    assert catalogue.our_name(catalogue.timm_name(name)) == name


def test_hub_ids_lead_back_to_the_model():
  for name in catalogue.PUBLISHED:
    hub_id = catalogue.published_weights(name)[-1]
    assert catalogue.our_name(hub.model_name(hub_id)) == name


def test_published_weights():
  assert catalogue.published_weights('nfnet_f6') == [
    'F6_haiku.npz',
    'timm/dm_nfnet_f6.dm_in1k',
  ]
  assert catalogue.published_weights('timm_nf_resnet50') == [
    'timm/nf_resnet50.ra2_in1k'
  ]
  assert catalogue.published_weights('nfnet_f7') == []


def test_md5s_are_distinct_and_well_formed():
  files = [p.file for p in catalogue.PUBLISHED.values() if p.file]
  assert [file.name for file in files] == [f'F{i}_haiku.npz' for i in range(7)]
  assert len({file.md5 for file in files}) == 7
  assert all(len(bytes.fromhex(file.md5)) == 16 for file in files)


@pytest.mark.parametrize(
  ('name', 'preset'),
  [
    ('nfnet_f0', 'deepmind'),
    ('nfnet_f7+', 'deepmind'),
    ('nf_resnet50', 'deepmind_crop'),
    ('nf_regnet_b0', 'deepmind_crop'),
    ('resnet50', 'deepmind_crop'),
    ('nfnet_l0', 'timm'),
    ('timm_nf_resnet50', 'timm'),
  ],
)
def test_eval_preset_is_that_of_the_authors(name, preset):
  assert catalogue.eval_preset(models.create_model(name).config) == preset


def test_find_ignores_the_classifier():
  row = catalogue.ROWS['nfnet_f1']
  parameters = row.parameters - 1000 * (row.features + 1)
  assert catalogue.find(row.tensors - 2, parameters) == ['nfnet_f1']
  assert catalogue.find(row.tensors - 2, parameters + 1) == []
