"""Where a program's time goes, read from a profiler trace.

JAX names every operation by the scopes it was traced in; the profiler names
the operations that ran. The two together tell how long each part took.
"""

import collections
import math
import pathlib
import re
import tempfile
from collections.abc import Callable, Iterable

import jax

# The first pattern found in an operation's scopes names its part.
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

_INSTRUCTION = re.compile(r'^\s*(?:ROOT )?%?([\w.\-]+) = ')
_COMPUTATION = re.compile(r'^%?([\w.\-]+) \(.*\{\s*$')
_SCOPES = re.compile(r'op_name="([^"]*)"')
_CALLS = re.compile(r'calls=%?([\w.\-]+)')


def part_of(scopes: str) -> str:
  """The part of the program that an operation of these scopes belongs to.

  Args:
    scopes: as in HLO metadata, 'jit(f)/NFNet/nf_block/conv0/conv2d_1x1/dot'.
  """
  # The outermost scope stands in brackets: 'jit(f)/transpose(jvp(agc))/mul'.
  path = re.sub(r'[()]+', '/', f'/{scopes}/')
  for name, pattern in _PARTS:
    found = re.search(pattern, path)
    if found:
      return found.group(1) if name == 'convolution' else name
  return OTHER


def scopes_by_operation(text: str) -> dict[str, str]:
  """Operation -> its scopes; a fusion has those of its parts.

  Args:
    text: an optimised HLO module.
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


def where_time_goes(
  run: Callable[[], float],
  text: str,
  *,
  steps: int = 3,
  directory: pathlib.Path | None = None,
) -> dict[str, float]:
  """Seconds per run of each part, the largest first.

  Operations that run at the same time count in full each, so that the sum may
  exceed the time of a run. `HOST` is the time of a run in which none runs: the
  device waits for Python, or for the profiler itself.

  Args:
    run: runs the program once and returns the seconds.
    text: its optimised HLO.
    steps: runs to average over.
    directory: keeps the trace, for TensorBoard or Perfetto.
  """
  with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(directory or temporary)
    before = set(folder.rglob('*.xplane.pb'))
    with jax.profiler.trace(str(folder)):
      wall = sum(run() for _ in range(steps))
    (trace,) = set(folder.rglob('*.xplane.pb')) - before
    data = jax.profiler.ProfileData.from_file(str(trace))
  scopes = scopes_by_operation(text)
  seconds: dict[str, float] = collections.defaultdict(float)
  spans = []
  for plane in data.planes:
    for line in plane.lines:
      for event in line.events:
        operation = dict(event.stats).get('hlo_op')
        if operation in scopes:
          part = part_of(scopes[operation])
          seconds[part] += event.duration_ns * 1e-9 / steps
          spans.append((event.start_ns, event.start_ns + event.duration_ns))
  seconds[HOST] = max(0.0, wall - 1e-9 * covered(spans)) / steps
  return dict(sorted(seconds.items(), key=lambda item: -item[1]))


def covered(spans: Iterable[tuple[float, float]]) -> float:
  """How much of the line intervals cover together.

  Args:
    spans: (start, end) of each; they may overlap.
  """
  total, reached = 0.0, -math.inf
  for start, end in sorted(spans):
    total += max(0.0, end - max(start, reached))
    reached = max(reached, end)
  return total
