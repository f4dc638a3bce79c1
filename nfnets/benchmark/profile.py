"""Splits a program's time by part, from a profiler trace.

JAX names each operation by the scopes in which it was traced; the profiler
records which operations ran. Together they give the time of each part.
"""

import collections
import math
import pathlib
import re
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import jax

from nfnets.analysis import hlo
from nfnets.benchmark import timing

# An operation belongs to the first part whose pattern its scopes match.
_PARTS = (
  ('augmentation', r'/augment/'),
  ('AGC', r'/agc/'),
  ('EMA', r'/ema/'),
  ('optimizer', r'/optimizer/'),
  ('convolution', r'/(conv2d_[\w]+)/'),
  ('standardization', r'/standardize/'),
  ('attention', r'/(squeeze_excite|eca)'),
  ('classifier', r'/linear/'),
)
OTHER = 'elementwise and the rest'
UNKNOWN = 'kernels of unknown operations'
HOST = 'host (no operation runs)'

# Runs that the times are averaged over.
_RUNS = 3

_SCOPES = re.compile(r'op_name="([^"]*)"')
_CALLS = re.compile(r'\bcalls=%?([\w.\-]+)')
# An event's name is a kernel, an operation, or an operation's whole line.
_NAME = re.compile(r'%?([\w.\-]+)')


class Profile(NamedTuple):
  """Where the time of a program goes; seconds per run.

  Attributes:
    parts: the time of each part, largest first. Operations that run in parallel
      each count in full.
    busy: the time in which at least one operation runs, on the average device.
    total: the time of a run.
  """

  parts: dict[str, float]
  busy: float
  total: float


class _Event(NamedTuple):
  """An operation that ran; times in nanoseconds."""

  start: float
  end: float
  part: str


def part_of(scopes: str) -> str:
  """Returns the part of the program that an operation belongs to.

  Args:
    scopes: scopes of the operation as in HLO metadata, such as
      'jit(f)/NFNet/nf_block/conv0/conv2d_1x1/dot'.

  Returns:
    The name of the part; for a convolution, its kind, such as 'conv2d_1x1'.
  """
  # Transformations add parentheses: 'jit(f)/transpose(jvp(agc))/mul'.
  path = re.sub(r'[()]+', '/', f'/{scopes}/')
  for name, pattern in _PARTS:
    found = re.search(pattern, path)
    if found:
      return found.group(1) if name == 'convolution' else name
  return OTHER


def scopes_by_operation(text: str) -> dict[str, str]:
  """Maps each operation to its scopes.

  A fusion that has no scopes of its own, or none that belong to a part, gets
  those of the first operation in it that has.

  Args:
    text: an optimized HLO module.

  Returns:
    {operation: scopes}, '' for operations without scopes.
  """
  module = hlo.parse(text)
  scopes = {}
  for item in module.instructions():
    named = _SCOPES.search(item.rest)
    scopes[item.name] = named[1] if named else ''
  for item in module.instructions():
    called = _CALLS.search(item.rest)
    if called and part_of(scopes[item.name]) == OTHER:
      inside = (scopes[x.name] for x in module.computations.get(called[1], ()))
      known = [s for s in inside if part_of(s) != OTHER]
      scopes[item.name] = known[0] if known else scopes[item.name]
  return scopes


def measure(
  run: timing.Run, text: str, *, directory: pathlib.Path | None = None
) -> Profile:
  """Profiles a program, with several runs in flight as in training.

  Args:
    run: runs the program.
    text: the program's optimized HLO.
    directory: where to keep the trace, for TensorBoard or Perfetto; None
      deletes it.
  """
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(directory or temporary)
    before = set(folder.rglob('*.xplane.pb'))
    with jax.profiler.trace(str(folder)):
      wall = run(_RUNS)
    (trace,) = set(folder.rglob('*.xplane.pb')) - before
    data = jax.profiler.ProfileData.from_file(str(trace))
  return summarize(data, text, wall, _RUNS)


def summarize(
  data: jax.profiler.ProfileData, text: str, wall: float, runs: int
) -> Profile:
  """Computes the time of each part from a trace.

  `HOST` is the time in which no operation runs on the average device: it waits
  for Python, or for the profiler itself.

  Args:
    data: the trace.
    text: the program's optimized HLO.
    wall: the seconds that the runs took.
    runs: the number of runs.
  """
  with warnings.catch_warnings():
    # The first event's type has no module in jaxlib 0.12: a deprecation that
    # aborts the interpreter if warnings are errors.
    warnings.simplefilter('ignore', DeprecationWarning)
    devices = _devices(data, _Names(scopes_by_operation(text)))
  nanoseconds: dict[str, float] = collections.defaultdict(float)
  busy = 0.0
  for lines in devices:
    for line in lines:
      for part, duration in _own_times(line):
        nanoseconds[part] += duration
    busy += union_length((x.start, x.end) for line in lines for x in line)
  scale = 1e-9 / runs / max(1, len(devices))
  seconds = {part: scale * value for part, value in nanoseconds.items()}
  total = wall / runs
  seconds[HOST] = max(0.0, total - scale * busy)
  parts = dict(sorted(seconds.items(), key=lambda item: -item[1]))
  return Profile(parts, scale * busy, total)


class _Names:
  """Finds the part of an event by its operation."""

  def __init__(self, scopes: dict[str, str]) -> None:
    """Takes the scopes of the program's operations."""
    self._parts = {name: part_of(value) for name, value in scopes.items()}
    # Kernels have the names of their operations with '_' for '.' and '-'.
    self._kernels = {
      re.sub(r'\W', '_', name): part for name, part in self._parts.items()
    }

  def by_statistic(self, event: jax.profiler.ProfileEvent) -> str | None:
    """Returns the part of the event's operation, if it is of the program."""
    return self._parts.get(dict(event.stats).get('hlo_op', ''))

  def find(self, event: jax.profiler.ProfileEvent) -> str:
    """Returns the part of a device's event.

    Kernels in command buffers do not record their operation.
    """
    if part := self.by_statistic(event):
      return part
    named = _NAME.match(event.name)
    name = named[1] if named else ''
    return self._parts.get(name) or self._kernels.get(name) or UNKNOWN


def _devices(
  data: jax.profiler.ProfileData, names: _Names
) -> list[list[list[_Event]]]:
  """Returns the events of each device, line by line.

  On a GPU the lines are streams; all their events count, copies too. A CPU's
  operations run in the host's threads, among events of other kinds.
  """
  devices, threads = [], []
  for plane in data.planes:
    if not plane.name.startswith('/device:'):
      threads += [_events(x.events, names.by_statistic) for x in plane.lines]
      continue
    lines = list(plane.lines)
    streams = [x for x in lines if x.name.startswith('Stream')]
    # Other lines of a TPU sum up these events by step and module.
    operations = [x for x in lines if x.name == 'XLA Ops']
    found = [_events(x.events, names.find) for x in streams or operations]
    if any(found):
      devices.append(found)
  return devices or [threads]


def _events(
  events: Iterable[jax.profiler.ProfileEvent],
  part_of_event: Callable[[jax.profiler.ProfileEvent], str | None],
) -> list[_Event]:
  return [
    _Event(event.start_ns, event.start_ns + event.duration_ns, part)
    for event in events
    if event.duration_ns and (part := part_of_event(event))
  ]


def _own_times(line: Sequence[_Event]) -> Iterator[tuple[str, float]]:
  """Yields pieces of a line's time with the part that they belong to.

  Where events overlap, as those of a loop and of its body do, the time belongs
  to the one that started last.
  """
  order = sorted(line, key=lambda x: (x.start, -x.end))
  starts = [(x.start, True, i) for i, x in enumerate(order)]
  ends = [(x.end, False, i) for i, x in enumerate(order)]
  running: dict[int, None] = {}
  before = 0.0
  for now, begins, i in sorted(starts + ends):
    if running:
      yield order[next(reversed(running))].part, now - before
    before = now
    if begins:
      running[i] = None
    else:
      del running[i]


def union_length(intervals: Iterable[tuple[float, float]]) -> float:
  """Returns the length of the union of intervals.

  Args:
    intervals: (start, end) of each; they may overlap.
  """
  total, reached = 0.0, -math.inf
  for start, end in sorted(intervals):
    total += max(0.0, end - max(start, reached))
    reached = max(reached, end)
  return total
