"""The kinds of settings: types, ranges, and how they are read from text.

The table of all settings is in `settings.py`. A value passes the same check
whether it comes from a settings file, the command line, a run's config.json or
a caller.
"""

import dataclasses
import difflib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

from nfnets import errors

Scalar: TypeAlias = bool | int | float | str
Value: TypeAlias = Scalar | tuple[int, ...] | tuple[float, ...] | None

# The largest number that a setting allows unless it has its own limit: sums
# and products of a few of these fit in the integers and floats of XLA.
LARGE = 10**9

_FLAGS = {'true': True, 't': True, '1': True}
_FLAGS |= {'false': False, 'f': False, '0': False}


@dataclasses.dataclass(frozen=True)
class Setting:
  """The default of a setting and the values that it allows.

  Attributes:
    default: its default. If this is None, None is allowed.
    kind: bool, int, float or str; for a sequence, the type of its elements.
    low: the smallest number allowed.
    high: the largest number allowed.
    above: whether numbers must be above `low`, not equal to it.
    below: whether numbers must be below `high`, not equal to it.
    choices: the strings allowed; () allows all.
    former: values of earlier versions -> what they are called today.
    length: None for a single value; 2 for a range (low, high); 0 for a sequence
      of at least one element.
  """

  default: Value
  kind: type
  low: float = 0
  high: float = LARGE
  above: bool = False
  below: bool = False
  choices: tuple[str, ...] = ()
  former: Mapping[bool, str] = dataclasses.field(default_factory=dict)
  length: int | None = None

  @property
  def allowed(self) -> str:
    """The allowed values in words."""
    text = self._interval if self.kind in (int, float) else 'text'
    if self.kind is bool:
      text = 'True or False'
    if self.choices:
      text = f'one of {", ".join(self.choices)}'
    if self.length == 2:
      text = f'two numbers low,high with low <= high, each {text}'
    elif self.length == 0:
      text = f'one number or more, each {text}'
    return text + (', or None' if self.default is None else '')

  @property
  def _interval(self) -> str:
    what = 'a whole number' if self.kind is int else 'a number'
    if not (self.above or self.below):
      return f'{what} from {self.low} to {self.high}'
    low = f'{"above" if self.above else "at least"} {self.low}'
    high = f'{"below" if self.below else "at most"} {self.high}'
    return f'{what} {low} and {high}'

  def check(self, name: str, value: object) -> Value:
    """Checks a value.

    Args:
      name: the setting's full name, such as 'train.batch_size'.
      value: the value to check.

    Returns:
      The value in the setting's own type: a whole number as a float where the
      setting is a float, a list as a tuple.

    Raises:
      UserError: the value is not allowed; with name, value and allowed values.
    """
    value = self.renamed(value)
    if value is None and self.default is None:
      return None
    if self.length is None:
      return self._check_scalar(name, value, value)
    if not isinstance(value, list | tuple):
      raise self._refused(name, value)
    checked = tuple(self._check_scalar(name, x, value) for x in value)
    if len(checked) != (self.length or max(1, len(checked))):
      raise self._refused(name, value)
    if self.length == 2 and checked[0] > checked[1]:  # type: ignore[operator]
      raise self._refused(name, value)
    return checked  # type: ignore[return-value]

  def renamed(self, value: object) -> object:
    """Returns what a value of an earlier version is called today."""
    return self.former.get(value, value) if isinstance(value, bool) else value

  def read(self, name: str, text: str) -> Value:
    """Reads a value from a command line and checks it.

    Args:
      name: the setting's full name.
      text: such as '0.1', 'true', 'none' or '1,2,3'.

    Raises:
      UserError: as in `check`.
    """
    try:
      value = self._parse(text)
    except (KeyError, ValueError) as error:
      raise self._refused(name, text) from error
    return self.check(name, value)

  def _parse(self, text: str) -> object:
    if self.default is None and text.lower() == 'none':
      return None
    if self.kind is bool:
      return _FLAGS[text.lower()]
    if self.former and text.lower() in _FLAGS:
      return _FLAGS[text.lower()]
    if self.length is None:
      return self.kind(text)
    parts = text.strip('()[] ').removesuffix(',').split(',')
    return tuple(self.kind(part) for part in parts)

  def _check_scalar(self, name: str, value: object, whole: object) -> Scalar:
    """Checks a value, or one element of the sequence `whole`."""
    if self.kind is float and isinstance(value, int):
      # An integer may be too large for a float; bool is a subclass of int.
      value = value if isinstance(value, bool) else _as_float(value)
    is_kind = isinstance(value, self.kind) and (
      isinstance(value, bool) == (self.kind is bool)
    )
    if not is_kind or not self._contains(value):
      raise self._refused(name, whole)
    return self.kind(value)  # A plain one: numpy's float64 is a float, too.

  def _contains(self, value: object) -> bool:
    if isinstance(value, str):
      return not self.choices or value in self.choices
    if isinstance(value, bool) or not isinstance(value, int | float):
      return True
    # NaN compares as false.
    above = value > self.low if self.above else value >= self.low
    below = value < self.high if self.below else value <= self.high
    return above and below

  def _refused(self, name: str, value: object) -> errors.UserError:
    return errors.UserError(
      f'config.{name} is {value!r}: it must be {self.allowed}'
    )


def _as_float(value: int) -> float:
  try:
    return float(value)
  except OverflowError:
    return math.inf


def flag(default: bool | None) -> Setting:
  """Returns a setting that is True or False."""
  return Setting(default, bool)


def text(
  default: str | None,
  choices: Iterable[str] = (),
  former: Mapping[bool, str] | None = None,
) -> Setting:
  """Returns a setting that is a string, any or one of `choices`.

  Args:
    default: its default.
    choices: the strings allowed; () allows all.
    former: if it was a flag in earlier versions, what its values are now.
  """
  return Setting(default, str, choices=tuple(choices), former=former or {})


def integer(default: int | None, least: int = 0, most: int = LARGE) -> Setting:
  """Returns a setting that is a whole number from `least` to `most`."""
  return Setting(default, int, least, most)


def integers(
  default: tuple[int, ...] | None, least: int = 0, most: int = LARGE
) -> Setting:
  """Returns a setting of one or more whole numbers from `least` to `most`."""
  return Setting(default, int, least, most, length=0)


def number(
  default: float | None,
  least: float = 0,
  most: float = LARGE,
  *,
  above: float | None = None,
  below: float | None = None,
) -> Setting:
  """Returns a setting that is a finite number.

  Args:
    default: its default.
    least: smallest value allowed; `above` replaces it.
    most: largest value allowed; `below` replaces it.
    above: a number that the value must exceed.
    below: a number that the value must not reach.
  """
  return Setting(
    default,
    float,
    least if above is None else above,
    most if below is None else below,
    above is not None,
    below is not None,
  )


def interval(
  default: tuple[float, float],
  least: float = 0,
  most: float = LARGE,
  *,
  above: float | None = None,
) -> Setting:
  """Returns a setting that is a range (low, high); see `number`."""
  element = number(None, least, most, above=above)
  return dataclasses.replace(element, default=default, length=2)


def nearest(name: str, known: Iterable[str]) -> str | None:
  """Returns the setting that an unknown name most likely means, if any.

  Args:
    name: an unknown setting, such as 'train.ema_start' or 'batch_size'.
    known: the full names of all settings.
  """
  known = list(known)
  last = name.rpartition('.')[2]
  same = [k for k in known if k.rpartition('.')[2] == last]
  close = same or difflib.get_close_matches(name, known, n=5)

  def similarity(other: str) -> tuple[float, int]:
    ratio = difflib.SequenceMatcher(None, name, other).ratio()
    return ratio, len(os.path.commonprefix([name, other]))

  return max(close, key=similarity, default=None)


def unknown(name: str, known: Sequence[str], prefix: str = '') -> str:
  """Explains in one line that a setting does not exist.

  Args:
    name: its full name.
    known: the full names of all settings.
    prefix: what users write before a name where this one is from, such as
      '--config.'.
  """
  inside = [k for k in known if k.startswith(f'{name}.')]
  if inside:
    return (
      f'{prefix}{name} is a group of settings; set one of them, such as'
      f' {prefix}{inside[0]}'
    )
  close = nearest(name, known)
  if close:
    return f'unknown setting {prefix}{name}: did you mean {prefix}{close}?'
  groups = sorted({k.partition('.')[0] for k in known})
  return f'unknown setting {prefix}{name}: the settings are {", ".join(groups)}'
