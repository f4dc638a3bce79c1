"""Bytes that a compiled program exchanges between devices."""

import collections
import re

from nfnets.analysis import hlo

# '%x = (f32[8,4]{1,0}, bf16[]) all-reduce-start(...)'
_COLLECTIVE = re.compile(
  r' = (\(.*?\)|\S+) (all-reduce|all-gather|reduce-scatter|all-to-all|'
  r'collective-permute|collective-broadcast)(?:-start)?\('
)


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
      totals[found[2]] += hlo.shape_bytes(found[1])
  return dict(totals)
