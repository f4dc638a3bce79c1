"""Reads optimized HLO modules: what `compiled.as_text()` prints."""

import functools
import math
import re
import statistics
from collections.abc import Callable, Iterator
from typing import NamedTuple

# '%x.1 = (f32[8]{0:T(8)}, u32[]) fusion(%a, %b), kind=kLoop, calls=%c'
_INSTRUCTION = re.compile(
  r'^\s*(?:ROOT )?%?(?P<name>[\w.\-]+) = (?P<shape>.+?)'
  r' (?P<opcode>[a-z][\w\-]*)\((?P<rest>.*)$'
)
_COMPUTATION = re.compile(r'^(ENTRY )?%?([\w.\-]+) \(.*\{\s*$')
_SHAPE = re.compile(r'\b(pred|[a-z]+(\d+)\w*)\[([\d,]*)\]')
_COMMENT = re.compile(r'/\*.*?\*/')
_OPERAND = re.compile(r'%([\w.\-]+)')
# The computations that run as often as the operation itself.
_CALLED = re.compile(r'\b(?:to_apply|calls)=%?([\w.\-]+)')
_BODY = re.compile(r'\bbody=%?([\w.\-]+)')
_CONDITION = re.compile(r'\bcondition=%?([\w.\-]+)')
_TRIPS = re.compile(r'known_trip_count[^\d]*(\d+)')
_BRANCHES = re.compile(r'\bbranch_computations=\{([^}]*)\}')
_BRANCH = re.compile(r'\b(?:true|false)_computation=%?([\w.\-]+)')


class Instruction(NamedTuple):
  """An operation of a module.

  Attributes:
    name: its name, unique in the module.
    shape: the shape of its result, such as 'f32[8,4]{1,0}' or a tuple.
    opcode: such as 'fusion'.
    operands: names of the operations that it reads.
    rest: the line after the opcode: operands, attributes and metadata.
  """

  name: str
  shape: str
  opcode: str
  operands: tuple[str, ...]
  rest: str


class Module(NamedTuple):
  """An optimized module.

  Attributes:
    entry: the name of the computation that the program runs.
    computations: the operations of each computation by its name.
  """

  entry: str
  computations: dict[str, list[Instruction]]

  def instructions(self) -> Iterator[Instruction]:
    """Yields the operations of all computations, also inside fusions."""
    for body in self.computations.values():
      yield from body


def parse(text: str) -> Module:
  """Reads a module.

  Args:
    text: an optimized HLO module.
  """
  entry = computation = ''
  computations: dict[str, list[Instruction]] = {}
  for line in _COMMENT.sub('', text).splitlines():
    if header := _COMPUTATION.match(line):
      computation = header[2]
      computations[computation] = []
      entry = computation if header[1] else entry
    elif computation and (found := _INSTRUCTION.match(line)):
      operands = _OPERAND.findall(found['rest'].partition(')')[0])
      computations[computation].append(
        Instruction(
          found['name'],
          found['shape'],
          found['opcode'],
          tuple(operands),
          found['rest'],
        )
      )
  return Module(entry, computations)


def shape_bytes(shape: str) -> int:
  """Returns the bytes of an array or tuple such as '(f32[8,4]{1,0}, u8[])'."""
  return sum(
    # XLA stores a pred in a byte.
    math.prod(int(side) for side in sides.split(',') if side)
    * int(bits or 8)
    // 8
    for _, bits, sides in _SHAPE.findall(shape)
  )


def total(module: Module, cost: Callable[[Instruction], float]) -> float:
  """Sums a cost over the operations that a program runs.

  A loop counts once per iteration, or once if the module does not tell the
  number of iterations; see `_iterations`. A conditional counts as the mean of
  its branches, since RandAugment draws its operations equally often. Operations
  inside a fusion do not count.

  Args:
    module: the module.
    cost: maps an operation to its cost, without the operations that it calls.
  """

  @functools.cache
  def computation(name: str) -> float:
    return sum(map(instruction, module.computations.get(name, ())))

  def instruction(item: Instruction) -> float:
    return cost(item) + _called(item, module, computation)

  return computation(module.entry)


def _called(
  item: Instruction, module: Module, computation: Callable[[str], float]
) -> float:
  """Returns the cost of the computations that an operation runs."""
  if item.opcode == 'while':
    body = computation(_BODY.findall(item.rest)[0])
    return body * _iterations(item, module)
  if item.opcode == 'conditional':
    listed = _BRANCHES.search(item.rest)
    names = listed[1].split(',') if listed else _BRANCH.findall(item.rest)
    return statistics.fmean(
      computation(name.strip().lstrip('%')) for name in names
    )
  if item.opcode in ('call', 'async-start'):
    return sum(map(computation, _CALLED.findall(item.rest)))
  return 0


def _iterations(loop: Instruction, module: Module) -> int:
  """Returns the number of iterations of a loop, 1 if it is not known.

  The compilers for CPUs and GPUs write it beside the loop. In a TPU's module
  the condition compares the counter, which JAX's loops start at 0, with it.
  """
  if known := _TRIPS.search(loop.rest):
    return int(known[1])
  condition = list(
    module.computations.get(_CONDITION.findall(loop.rest)[0], ())
  )
  for item in tuple(condition):
    for name in _CALLED.findall(item.rest):
      condition += module.computations.get(name, ())
  limits = [
    int(item.rest.partition(')')[0])
    for item in condition
    if item.opcode == 'constant' and item.shape.startswith('s32[]')
  ]
  below = [item for item in condition if 'direction=LT' in item.rest]
  return limits[0] if len(limits) == len(below) == 1 else 1
