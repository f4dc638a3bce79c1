import math

import pytest

from nfnets import errors, models
from nfnets.models import scaling


def test_betas_are_reset_in_each_stage():
  # Variances of the inputs by hand: 1 | 1.04 1.04 | 1.08 1.04 1.08.
  variances = [1.0, 1.04, 1.04, 1.08, 1.04, 1.08]
  assert scaling.betas((1, 2, 3), 0.2) == pytest.approx(
    [1 / math.sqrt(variance) for variance in variances]
  )


def test_stochastic_depth_ramp():
  rates = scaling.stochastic_depth_rates(0.25, 5)
  assert rates == pytest.approx([0.0, 0.05, 0.1, 0.15, 0.2])


@pytest.mark.parametrize(
  ('channels', 'divisor', 'expected'),
  [
    (36.9, 1, 36),
    (0.3, 1, 1),
    (36.0, 8, 40),
    (78.0, 8, 80),
    (156.0, 8, 160),
    (330.0, 8, 328),
    (366.0, 8, 368),
    (11.0, 8, 16),  # 8 would lose over 10%
    (2.0, 8, 8),
  ],
)
def test_round_channels(channels, divisor, expected):
  assert scaling.round_channels(channels, divisor) == expected


@pytest.mark.parametrize(
  ('channels', 'ratio', 'divisor', 'expected'),
  [
    (1536, 0.5, 1, 768),
    (1, 0.5, 1, 1),
    (744, 0.5, 8, 376),
    (256, 1 / 16, 8, 16),
    (32, 0.25, 8, 8),
    (11, 1.0, 8, 8),  # nearest, though it loses over 10%
  ],
)
def test_hidden_channels(channels, ratio, divisor, expected):
  assert scaling.hidden_channels(channels, ratio, divisor) == expected


@pytest.mark.parametrize(
  'options',
  [
    {'width': 1e5},
    {'se_ratio': 1e5},
    {'bottleneck_ratio': 1e5},
    {'final_width': 10**6, 'width': 2.0},
  ],
)
def test_no_layer_is_wider_than_possible(options):
  with pytest.raises(errors.UserError, match='channels is wider than 1048576'):
    models.create_model('nfnet_f0', **options)


def test_groups_are_whole():
  assert scaling.group_count(384, 128) == 3
  assert scaling.group_count(300, 128) == 2
  with pytest.raises(errors.UserError, match='64 channels.*group of 128'):
    scaling.group_count(64, 128)


def test_plan_of_f0():
  stages = scaling.plan_blocks(models.create_model('nfnet_f0').config)
  assert [len(stage) for stage in stages] == [1, 2, 6, 3]
  first, last = stages[0][0], stages[3][2]
  assert first == scaling.BlockPlan(128, 256, 128, 1, 1, 1.0)
  assert last[:5] == (1536, 1536, 768, 6, 1)
  assert last.beta == pytest.approx((1 + 2 * 0.2**2) ** -0.5)
  assert [stage[0].stride for stage in stages] == [1, 2, 2, 2]
