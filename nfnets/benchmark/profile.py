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
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import jax

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
HOST = 'host (no operation runs)'

# Runs that the times are averaged over.
_STEPS = 3

_INSTRUCTION = re.compile(r'^\s*(?:ROOT )?%?([\w.\-]+) = ')
_COMPUTATION = re.compile(r'^%?([\w.\-]+) \(.*\{\s*$')
_SCOPES = re.compile(r'op_name="([^"]*)"')
_CALLS = re.compile(r'calls=%?([\w.\-]+)')


class _Event(NamedTuple):
  """An operation that ran; times in nanoseconds."""

  part: str
  start: float
  duration: float


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
  inside: dict[str, list[str]] = collections.defaultdict(list)
  scopes, calls = {}, {}
  computation = ''
  for line in text.splitlines():
    if header := _COMPUTATION.match(line.removeprefix('ENTRY ')):
      computation = header.group(1)
    elif instruction := _INSTRUCTION.match(line):
      name = instruction.group(1)
      named = _SCOPES.search(line)
      scopes[name] = named.group(1) if named else ''
      inside[computation].append(scopes[name])
      if called := _CALLS.search(line):
        calls[name] = called.group(1)
  for name, body in calls.items():
    if part_of(scopes[name]) == OTHER:
      known = [s for s in inside[body] if part_of(s) != OTHER]
      scopes[name] = known[0] if known else scopes[name]
  return scopes


def seconds_by_part(
  run: timing.Run, text: str, *, directory: pathlib.Path | None = None
) -> dict[str, float]:
  """Profiles a program and returns the seconds per run of each part.

  Operations that run in parallel each count in full, so the sum may exceed the
  time of a run. `HOST` is the time in which no operation runs: the device waits
  for Python or for the profiler itself.

  Args:
    run: runs the program once.
    text: the program's optimized HLO.
    directory: where to keep the trace, for TensorBoard or Perfetto; None
      deletes it.

  Returns:
    {part: seconds}, largest first.
  """
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(directory or temporary)
    before = set(folder.rglob('*.xplane.pb'))
    with jax.profiler.trace(str(folder)):
      wall = sum(run() for _ in range(_STEPS))
    (trace,) = set(folder.rglob('*.xplane.pb')) - before
    data = jax.profiler.ProfileData.from_file(str(trace))
  with warnings.catch_warnings():
    # The first event's type has no module in jaxlib 0.12: a deprecation that
    # aborts the interpreter if warnings are errors.
    warnings.simplefilter('ignore', DeprecationWarning)
    events = list(_events(data, scopes_by_operation(text)))
  seconds: dict[str, float] = collections.defaultdict(float)
  for event in events:
    seconds[event.part] += event.duration * 1e-9 / _STEPS
  busy = union_length((e.start, e.start + e.duration) for e in events)
  seconds[HOST] = max(0.0, wall - 1e-9 * busy) / _STEPS
  return dict(sorted(seconds.items(), key=lambda item: -item[1]))


def _events(
  data: jax.profiler.ProfileData, scopes: dict[str, str]
) -> Iterator[_Event]:
  """Yields the trace's events that are operations of the program."""
  for plane in data.planes:
    for line in plane.lines:
      for event in line.events:
        operation = dict(event.stats).get('hlo_op')
        if operation in scopes:
          part = part_of(scopes[operation])
          yield _Event(part, event.start_ns, event.duration_ns)


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
