"""What we ask of XLA beyond the mathematics, under names.

XLA compiles each distinct operation of a program once, and copies a constant,
an index or a random generator into every operation that uses it. Blocks of a
deep network that differ in nothing else then become different operations: an
F6 train step has thousands of them and compiles for minutes. Hidden behind
`opaque` or `materialize`, what differs is an input, and operations of equal
shape stay equal. Both are barriers; on CPUs they need the flag that
`runtime.compilation.set_compiler_flags` sets.

No function here changes a result beyond rounding.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
from jax import lax

T = TypeVar('T')


def opaque(value: jax.Array) -> jax.Array:
  """Hides a value from XLA, so that blocks of equal shape share kernels.

  Args:
    value: a small array, such as a constant that differs from block to block.

  Returns:
    The same value, which XLA no longer knows.
  """
  return lax.optimization_barrier(value)


def materialize(tree: T) -> T:
  """Has XLA compute arrays once, not inside every operation that uses them.

  Args:
    tree: arrays that are worth writing to memory, such as one random draw of
      which every parameter is a slice, or a reduction of many small arrays.

  Returns:
    The same arrays.
  """
  return lax.optimization_barrier(tree)


def map_alike(
  function: Callable[..., jax.Array], *columns: Sequence[jax.Array]
) -> list[jax.Array]:
  """Computes `[function(*row) for row in zip(*columns)]`, equal rows as one.

  A network has thousands of scalars and vectors of a few shapes. Those of equal
  shape and dtype are stacked and mapped over by one operation; each result is
  read back at an opaque index, so that what uses it stays equal as well. Larger
  arrays are not copied: they are only traced once per shape.

  Args:
    function: array function that is the same for every row; it may close over
      traced values.
    *columns: its arguments, lists of equal length.

  Returns:
    One result per row, in order.
  """
  rows = list(zip(*columns, strict=True))
  groups: dict[Any, list[int]] = {}
  for i, row in enumerate(rows):
    small = all(x.ndim < 2 for x in row)
    key = tuple((x.shape, x.dtype) for x in row) if small else i
    groups.setdefault(key, []).append(i)
  mapped = jax.jit(jax.vmap(function))
  results: dict[int, jax.Array] = {}
  for members in groups.values():
    stacks = [
      jnp.stack(x) for x in zip(*(rows[i] for i in members), strict=True)
    ]
    stacked = mapped(*stacks)
    results |= {i: _row(stacked, k) for k, i in enumerate(members)}
  return [results[i] for i in range(len(rows))]


def _row(stacked: jax.Array, index: int) -> jax.Array:
  if len(stacked) == 1:
    return stacked[0]
  return lax.dynamic_index_in_dim(
    stacked, opaque(jnp.uint32(index)), keepdims=False
  )


def global_norm(tree: Any) -> jax.Array:
  """Computes `optax.tree.norm` without writing out the squares.

  Scalars and vectors, most of the parameters but a hundredth of the numbers,
  are concatenated into one operation. The norms of the rest are stacked behind
  a barrier: XLA would write their sum as a chain of additions as long as the
  network is deep, and take ever longer to compile each link.

  Args:
    tree: pytree of float arrays with at least one leaf.

  Returns:
    float32[], for float32 leaves.
  """
  leaves = jax.tree.leaves(tree)
  large = [x for x in leaves if x.ndim > 1]
  small = [x.ravel() for x in leaves if x.ndim <= 1]
  if small:
    large.append(jnp.concatenate(small))
  squares = jnp.stack([jnp.vdot(x, x) for x in large])
  return jnp.sqrt(jnp.sum(materialize(squares)))


def update_if(condition: jax.Array, update: Callable[[], T], old: T) -> T:
  """Returns `update()` where the condition holds, else `old` to the bit.

  On CPUs it is a branch, since a choice per number would read and write all of
  `old` once more. On accelerators the choice is part of the update, and a
  branch would wait for the host.

  Args:
    condition: bool[].
    update: makes a pytree like `old`; traced once for all platforms.
    old: pytree of arrays.
  """
  update = jax.jit(update)

  def chosen() -> T:
    return jax.tree.map(
      lambda new, kept: jnp.where(condition, new, kept), update(), old
    )

  return lax.platform_dependent(
    cpu=lambda: lax.cond(condition, update, lambda: old), default=chosen
  )


def trace_once(
  function: Callable[..., T], static_argnums: int | Sequence[int] = ()
) -> Callable[..., T]:
  """Traces a function once per shape, however often the network calls it.

  The calls are compiled together with what surrounds them.

  Args:
    function: of arrays, and of hashable values at `static_argnums`.
    static_argnums: positions of arguments that are no arrays.
  """
  return functools.wraps(function)(
    jax.jit(function, static_argnums=static_argnums)
  )
