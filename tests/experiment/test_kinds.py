"""Kinds of settings: what they read, allow and print.

test_settings.py applies them to every setting.
"""

import numpy as np
import pytest

from nfnets import errors
from nfnets.experiment import kinds


@pytest.mark.parametrize(
  'setting, text, value',
  [
    (kinds.integer(0), '7', 7),
    (kinds.integer(0, -5), '-5', -5),
    (kinds.integer(None), 'None', None),
    (kinds.number(0.0), '1', 1.0),
    (kinds.number(0.0), '1e-3', 1e-3),
    (kinds.number(None), 'none', None),
    (kinds.flag(False), 'true', True),
    (kinds.flag(True), 'False', False),
    (kinds.flag(True), '0', False),
    (kinds.text('a'), '', ''),
    (kinds.text('a'), 'none', 'none'),
    (kinds.text(None), 'none', None),
    (kinds.text('a', ('a', 'b')), 'b', 'b'),
    (kinds.integers(None), '1,2,3', (1, 2, 3)),
    (kinds.integers(None), '(4,)', (4,)),
    (kinds.integers(None), 'none', None),
    (kinds.interval((0.0, 1.0)), '[0.25, 1]', (0.25, 1.0)),
    (kinds.interval((0.0, 1.0)), '0.5,0.5', (0.5, 0.5)),
  ],
)
def test_text_is_read_in_the_type_of_the_setting(setting, text, value):
  read = setting.read('x', text)
  assert read == value and type(read) is type(value)


@pytest.mark.parametrize(
  'setting, allowed',
  [
    (kinds.flag(False), 'True or False'),
    (kinds.text(''), 'text'),
    (kinds.text(None), 'text, or None'),
    (kinds.text('a', ('a', 'b')), 'one of a, b'),
    (kinds.integer(1, 1, 9), 'a whole number from 1 to 9'),
    (kinds.number(0.5, most=1), 'a number from 0 to 1'),
    (kinds.number(0.5, below=1), 'a number at least 0 and below 1'),
    (kinds.number(0.5, above=0, most=2), 'a number above 0 and at most 2'),
    (kinds.number(None, most=1), 'a number from 0 to 1, or None'),
    (
      kinds.integers(None, 1, 9),
      'one number or more, each a whole number from 1 to 9, or None',
    ),
    (
      kinds.interval((0.5, 1.0), above=0, most=1),
      'two numbers low,high with low <= high, each a number above 0 and at most'
      ' 1',
    ),
  ],
)
def test_the_allowed_values_in_words(setting, allowed):
  assert setting.allowed == allowed


@pytest.mark.parametrize(
  'setting, value, plain',
  [
    (kinds.number(0.0), np.float64(0.5), 0.5),
    (kinds.number(0.0), 3, 3.0),
    (kinds.interval((0.0, 1.0)), [0, np.float64(0.5)], (0.0, 0.5)),
    (kinds.text(''), np.str_('a'), 'a'),
  ],
)
def test_values_become_plain_python(setting, value, plain):
  checked = setting.check('x', value)
  assert checked == plain and type(checked) is type(plain)
  if isinstance(plain, tuple):
    assert [type(x) for x in checked] == [float, float]


@pytest.mark.parametrize(
  'value', [np.float32(0.5), np.array([1.0]), np.True_, 10**400]
)
def test_other_numbers_are_refused(value):
  with pytest.raises(errors.UserError, match='config.x is '):
    kinds.number(0.0).check('x', value)


@pytest.mark.parametrize(
  'name, expected',
  [
    ('train.ema_start', 'train.ema_decay'),
    ('train.sam_shares', 'train.sam_share'),
    ('ema_decay', 'train.ema_decay'),
    ('optimizer.ema_decay', 'train.ema_decay'),
    ('zzz', None),
  ],
)
def test_the_nearest_name(name, expected):
  known = ['train.ema_decay', 'train.sam_share', 'optimizer.momentum', 'seed']
  assert kinds.nearest(name, known) == expected


@pytest.mark.parametrize(
  'name, expected',
  [
    ('train', '--train is a group of settings; set one of them, such as --tra'),
    ('trian.a', 'unknown setting --trian.a: did you mean --train.a?'),
    ('zzz', 'unknown setting --zzz: the settings are seed, train'),
  ],
)
def test_unknown_names_are_explained(name, expected):
  message = kinds.unknown(name, ['train.a', 'train.b', 'seed'], '--')
  assert message.startswith(expected)
