import pytest

from nfnets import models
from nfnets.models import nf_resnet
from tests import filled, helpers

# Layers -> parameters of NF-ResNet, with squeeze-excite as well, and of
# SkipInit. Integers are exact, floats are rounded to thousands.
PARAMETERS = {
  50: (25_557_048, 35_635_704, 25_530e3),
  101: (44_549_193, 63_563e3, 44_496e3),
  152: (60_192_858, 86_565e3, 60_117e3),
  200: (64_673_898, 93_154e3, 64_586e3),
  288: (146_460_552, 213_422e3, 146_318e3),
  600: (300_647e3, 440_151e3, 300_355e3),
}
_DEEP = (200, 288, 600)


def _rows():
  options = (('nf_resnet', {}), ('nf_resnet', {'se_ratio': 0.25}))
  options += (('skipinit_resnet', {}),)
  for layers, counts in PARAMETERS.items():
    marks = [pytest.mark.slow] if layers in _DEEP else []
    for (prefix, changes), count in zip(options, counts, strict=True):
      yield pytest.param(f'{prefix}{layers}', changes, count, marks=marks)


def test_every_depth_is_counted():
  assert sorted(PARAMETERS) == sorted(nf_resnet.DEPTHS)


@pytest.mark.parametrize(('name', 'changes', 'expected'), _rows())
def test_parameter_count(name, changes, expected):
  tolerance = 0 if isinstance(expected, int) else 1000
  model = models.create_model(name, **changes)
  assert abs(filled.count(model) - expected) <= tolerance


def test_nf_resnet50_equals_the_published_network():
  golden = helpers.golden()['reference']['NF_ResNet-ResNet50']
  model = models.create_model('nf_resnet50')
  assert filled.names(model) == golden['names']
  filled.assert_golden(filled.logits(model, golden['size']), golden)


def test_skipinit_has_plain_convolutions():
  names = filled.names(models.create_model('skipinit_resnet50'))
  root = 'SkipInit_ResNet/~'
  assert f'{root}/initial_conv/w (7, 7, 3, 64)' in names
  assert f'{root}/initial_conv/b (64,)' not in names
  assert f'{root}/nf_res_block/~/conv0/b (64,)' in names
  assert f'{root}/nf_res_block/skip_gain ()' in names
  assert not [name for name in names if '/gain' in name]
