import dataclasses

import numpy as np
import pytest

from nfnets import errors
from nfnets.models import config, nfnet

F0 = nfnet.VARIANTS['nfnet_f0']


@pytest.mark.parametrize(
  ('changes', 'message'),
  [
    ({'activation': 'swish'}, "activation is 'swish'"),
    ({'depth': (1, 2, 6)}, r'\(1, 2, 6\), expected 4 stages.*nfnet_f0'),
    ({'depth': (1, 2, 0, 3)}, 'at least 1 block'),
    ({'depth': (1, 2, 1.5, 3)}, '1.5'),
    ({'drop_rate': 1.0}, 'drop_rate is 1.0, expected 0 <= drop_rate < 1'),
    ({'stochdepth_rate': -0.1}, 'stochdepth_rate is -0.1'),
    ({'num_classes': -1}, 'num_classes is -1, expected at least 0'),
    ({'group_size': -8}, 'group_size is -8'),
    ({'se_ratio': -0.5}, 'se_ratio is -0.5'),
    ({'final_width': -1}, 'final_width is -1'),
    ({'width': 0}, 'width is 0, expected a value above 0'),
    ({'width': 'x'}, "width is 'x', expected a number"),
    ({'width': float('nan')}, 'width is nan, expected a number'),
    ({'width': 10**400}, 'width is 1000.*, expected -1e'),
    ({'width': True}, 'width is True, expected a number'),
    ({'width': 1e9}, r'width is 1000000000.0, expected -1e\+06 to 1e\+06'),
    ({'depth': (1, 2, 6, 10**9)}, 'depth is .*, expected 1 to 10000'),
    ({'depth': 4}, 'depth is 4, expected several numbers'),
    ({'depth': (1, '2', 6, 3)}, "'2'.*, expected several numbers"),
    ({'mean': (0.5, 0.5)}, r'mean is \(0.5, 0.5\), expected 3 numbers'),
    ({'std': (0.5, 0.5, 0.0)}, 'std is .*, expected 1e-06 to'),
    ({'test_size': 0}, 'test_size is 0, expected 1 to 16384'),
    ({'test_size': 32.5}, 'test_size is 32.5, expected an integer'),
    ({'remat': 1}, 'remat is 1, expected True or False'),
    ({'padding': 'valid'}, "'valid', expected one of same, symmetric"),
    ({'batch_norm_axis': 3}, 'is 3, expected a string or None'),
    ({'activation': ['relu']}, 'expected a string'),
    ({'alpha': None}, 'alpha is None, expected a number'),
  ],
)
def test_impossible_values_are_errors(changes, message):
  with pytest.raises(errors.UserError, match=message):
    dataclasses.replace(F0, **changes)


def test_limits_are_allowed():
  changes = {'drop_rate': 0.0, 'num_classes': 0, 'se_ratio': 0.0, 'depth': (1,)}
  changed = dataclasses.replace(F0, widths=(256,), **changes)
  assert changed.depth == (1,)
  numbers = {'width': np.float32(0.5), 'num_classes': np.int64(7), 'alpha': 1}
  assert dataclasses.replace(F0, **numbers).num_classes == 7


def test_a_record_is_frozen_and_hashable():
  with pytest.raises(dataclasses.FrozenInstanceError):
    F0.width = 2.0
  same = config.ModelConfig(**dataclasses.asdict(F0))
  assert same == F0 and hash(same) == hash(F0)
