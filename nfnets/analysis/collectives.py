"""Bytes that a compiled program exchanges between devices."""

import collections
import math
import re

# '%x = (f32[8,4]{1,0}, bf16[]) all-reduce-start(...)'
_COLLECTIVE = re.compile(
  r' = (\(.*?\)|\S+) (all-reduce|all-gather|reduce-scatter|all-to-all|'
  r'collective-permute|collective-broadcast)(?:-start)?\('
)
_SHAPE = re.compile(r'\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]')


def collective_bytes(text: str) -> dict[str, int]:
  """Counts the bytes of the results of collective operations.

  An operation in a loop counts once.

  Args:
    text: an optimized HLO module, of one device.

  Returns:
    {'all-reduce': bytes on each device, ...}, {} if there are no collectives.
  """
  totals: collections.Counter[str] = collections.Counter()
  for line in text.splitlines():
    if found := _COLLECTIVE.search(line):
      totals[found[2]] += sum(map(_bytes, _SHAPE.finditer(found[1])))
  return dict(totals)


def _bytes(shape: re.Match[str]) -> int:
  """Returns the bytes of an array such as 'f32[8,4]'."""
  sides = (int(side) for side in shape[3].split(',') if side)
  bits = int(shape[2] or 8)  # XLA stores a pred in a byte.
  return math.prod(sides) * bits // 8
