"""The table: every default is allowed, and every value beyond it refused.

Each test goes through all settings, as a settings file, a caller and the
command line set them.
"""

import math

import pytest

from nfnets import errors
from nfnets.experiment import checks, command_line, kinds
from nfnets.experiment import config as config_lib
from nfnets.experiment import settings as settings_lib

TABLE = settings_lib.SETTINGS
WITH_BOUNDS = [name for name, x in TABLE.items() if x.kind in (int, float)]


def beyond(x: kinds.Setting) -> list[int | float]:
  """The numbers that are just outside of the range."""
  if x.kind is int:
    return [x.low - 1, x.high + 1]
  return [
    x.low if x.above else math.nextafter(x.low, -math.inf),
    x.high if x.below else math.nextafter(x.high, math.inf),
  ]


def within(x: kinds.Setting) -> list[int | float]:
  """The smallest and the largest number that are allowed."""
  low, high = beyond(x)
  if x.kind is int:
    return [low + 1, high - 1]
  return [math.nextafter(low, math.inf), math.nextafter(high, -math.inf)]


def as_value(x: kinds.Setting, element: object) -> object:
  """A value that is wrong or right because `element` is."""
  right = x.low + (1 if x.kind is int else (x.high - x.low) / 2)
  if x.length is None:
    return element
  return (element,) if x.length == 0 else (element, max(element, right))


def of_wrong_type(x: kinds.Setting) -> list[object]:
  values: list[object] = [[], {'a': 1}, object()]
  if x.default is not None:
    values.append(None)
  if x.kind is bool:
    return [*values, 0, 1, 'False', 'true', '', 1.0]
  if x.kind is str:
    flags = [] if x.former else [False]
    return [*values, 0, *flags, b'text', ('text',)]
  if x.length is not None:
    values += [x.low, 0.25, '1,2', (), (True, True), ('1', '2'), (None, 1)]
    return values + ([(1, 1.5)] if x.kind is int else [(0.5,), (0.5,) * 3])
  values += [True, '1', 'x', '', (1,), 1j]
  return values + ([1.5, 2.0] if x.kind is int else [])


def refusal(name, value):
  """The message for the default settings with this one added or changed."""
  values = config_lib.flatten(config_lib.base()) | {name: value}
  with pytest.raises(errors.UserError) as caught:
    checks.from_flat(values)
  assert '\n' not in str(caught.value)
  return str(caught.value)


@pytest.mark.parametrize('name', TABLE)
def test_the_default_is_allowed(name):
  x = TABLE[name]
  assert x.check(name, x.default) == x.default
  assert type(x.check(name, x.default)) is type(x.default)


def test_the_defaults_together_are_allowed():
  checks.check(config_lib.base())


@pytest.mark.parametrize('name', WITH_BOUNDS)
def test_numbers_are_allowed_up_to_the_bounds(name):
  x = TABLE[name]
  for number in within(x):
    value = as_value(x, number)
    assert x.check(name, value) == value


@pytest.mark.parametrize('name', WITH_BOUNDS)
def test_numbers_beyond_the_bounds_are_refused(name):
  x = TABLE[name]
  elements = [*beyond(x), math.nan, math.inf, -math.inf, 10**400, -(10**400)]
  for element in elements:
    value = as_value(x, element)
    assert refusal(name, value) == (
      f'config.{name} is {value!r}: it must be {x.allowed}'
    )
    assert str(x.low) in x.allowed and str(x.high) in x.allowed


@pytest.mark.parametrize('name', TABLE)
def test_other_types_are_refused(name):
  x = TABLE[name]
  for value in of_wrong_type(x):
    with pytest.raises(errors.UserError) as caught:
      x.check(name, value)
    assert str(caught.value) == (
      f'config.{name} is {value!r}: it must be {x.allowed}'
    )


@pytest.mark.parametrize('name', TABLE)
def test_the_command_line_refuses_the_same(name):
  x = TABLE[name]
  texts = ['unknown'] if x.choices else []
  if x.kind is bool:
    texts = ['2', 'yes', 'Flase', '']
    texts += [] if x.default is None else ['None']
  if x.kind in (int, float):
    parts = [repr(y) for y in (*beyond(x), math.nan, math.inf)]
    texts = [*parts, 'x', '1;2', 'True', '0x', '1e', '--1']
    texts += ['1.5', '1e3', '1,2'] if x.kind is int and x.length is None else []
  if x.length == 2:
    texts += ['0.25', '0.5,', '0.5,0.6,0.7', '0.6,0.5', ',', '0.5,x']
  for text in texts:
    with pytest.raises(errors.UserError) as caught:
      command_line.parse_config(
        ['--config=experiments/digits.py', f'--config.{name}={text}']
      )
    message = str(caught.value)
    assert f'config.{name}' in message and text in message.replace(', ', ',')
    assert '\n' not in message


@pytest.mark.parametrize('name', [n for n, x in TABLE.items() if x.choices])
def test_choices_are_listed(name):
  x = TABLE[name]
  for choice in x.choices:
    assert x.check(name, choice) == choice
  message = refusal(name, x.choices[0].upper())
  assert f'config.{name} is {x.choices[0].upper()!r}: it must be' in message
  assert ', '.join(x.choices) in message


@pytest.mark.parametrize('name', TABLE)
def test_a_misspelled_name_suggests_the_right_one(name):
  section, dot, key = name.rpartition('.')
  # 'beta' may be either of two settings.
  right = [n for n in TABLE if n.rstrip('12') == name.rstrip('12')]
  for wrong in (f'{key[:-1]}', f'{key}s', f'{key}_', key[0] + key[2:]):
    wrong = section + dot + wrong
    if wrong not in TABLE:
      message = f'unknown setting {wrong}: did you mean '
      assert refusal(wrong, 1) in {f'{message}{n}?' for n in right}


def test_values_of_earlier_versions_are_read_everywhere():
  x = TABLE['freeze']
  for flag, text, expected in ((True, 'true', 'all'), (False, 'F', 'none')):
    assert x.check('freeze', flag) == x.read('freeze', text) == expected
    old = config_lib.flatten(config_lib.base()) | {'freeze': flag}
    assert checks.check_values(old)['freeze'] == expected
    new = {**old, 'freeze': expected}
    assert config_lib.differences(old, new) == []
    assert len(config_lib.differences(old, {**old, 'freeze': 'stem'})) == 1
  for wrong in (1, 0, 'True', 'on'):
    assert 'it must be one of none, stem' in refusal('freeze', wrong)
