"""Requests to XLA beyond the mathematics, each under a name.

XLA compiles every distinct operation of a program once. But it copies
constants, indices and random generators into each operation that uses them, so
blocks of a deep network that differ only in such a value become distinct
operations: the train step of NFNet-F6 has thousands of them and takes minutes
to compile. `opaque` and `materialize` turn the value into an input of the
operation. Operations of equal shape are then equal again and are compiled once.
Both are optimization barriers, which XLA removes on CPUs unless
`runtime.compilation.set_compiler_flags` has been called.

No function here changes a result beyond rounding.
"""

import functools
from collections.abc import Callable, Hashable, Sequence
from typing import Any, TypeAlias, TypeVar

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import layout

T = TypeVar('T')
ArrayTree: TypeAlias = Any
"""A pytree of arrays, for which JAX has no type."""


def opaque(value: jax.Array) -> jax.Array:
  """Hides a value from XLA, so that blocks of equal shape share kernels.

  Args:
    value: a small array, such as a constant that differs from block to block.

  Returns:
    The same value, as an array that XLA treats as unknown.
  """
  return lax.optimization_barrier(value)


def materialize(tree: T) -> T:
  """Has XLA compute arrays once, before anything that uses them.

  Without it XLA may repeat the computation inside every operation that reads
  the result. Nothing that uses one of the arrays starts before all of them are
  computed.

  Args:
    tree: pytree of arrays that are worth writing to memory, such as a random
      draw that is sliced into all parameters, or the sums of many arrays.

  Returns:
    The same arrays.
  """
  return lax.optimization_barrier(tree)


def row_major(array: jax.Array) -> jax.Array:
  """Has XLA store an array with its last axis contiguous.

  Args:
    array: the state of a loop, of which every iteration would otherwise read
      and write a layout that XLA chose for one of its operations.

  Returns:
    The same array.
  """
  axes = tuple(range(array.ndim))
  return layout.with_layout_constraint(array, layout.Layout(axes))


def map_alike(
  function: Callable[..., T],
) -> Callable[..., tuple[list[T], list[T]]]:
  """Maps a function over rows of arrays, equal rows together.

  A network has thousands of scalars and vectors, in a few shapes. Rows of equal
  shapes and dtypes are stacked, and one operation maps over the stack. Each
  result is read back at an opaque index, which keeps the operations that use it
  equal too. Rows with a larger array are not copied, only traced once per
  shape.

  Args:
    function: arrays to a pytree of arrays, the same for every row; it may close
      over traced values.

  Returns:
    Maps lists of equal length, the columns of arguments, to
    `[function(*row) for row in zip(*columns)]`, and to the same results as a
    few stacks, which a reduction over all of them should read.
  """
  mapped = jax.jit(jax.vmap(function))

  def apply(*columns: Sequence[jax.Array]) -> tuple[list[T], list[T]]:
    rows = list(zip(*columns, strict=True))
    results: dict[int, T] = {}
    stacks: list[T] = []
    for members in _alike(rows):
      arguments = zip(*(rows[i] for i in members), strict=True)
      stacks.append(mapped(*map(jnp.stack, arguments)))
      for k, i in enumerate(members):
        row = functools.partial(_row, index=k)
        results[i] = jax.tree.map(row, stacks[-1])
    return [results[i] for i in range(len(rows))], stacks

  return apply


def _alike(rows: Sequence[tuple[jax.Array, ...]]) -> list[list[int]]:
  """Groups the positions of small rows by their shapes and dtypes."""
  groups: dict[Hashable, list[int]] = {}
  for i, row in enumerate(rows):
    small = all(x.ndim < 2 for x in row)
    key = tuple((x.shape, x.dtype) for x in row) if small else i
    groups.setdefault(key, []).append(i)
  return list(groups.values())


def _row(stacked: jax.Array, index: int) -> jax.Array:
  if len(stacked) == 1:
    return stacked[0]
  return lax.dynamic_index_in_dim(
    stacked, opaque(jnp.uint32(index)), keepdims=False
  )


def global_norm(tree: ArrayTree) -> jax.Array:
  """Computes `optax.tree.norm` without writing the squares to memory.

  Scalars and vectors, which are most of the parameters but hold a hundredth of
  the numbers, are concatenated and summed by one operation. The sums of the
  other leaves are stacked and materialized: otherwise XLA adds them in a chain
  of operations as long as the network is deep, and compiles each link more
  slowly than the one before.

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
  """Returns `update()` if the condition holds, else `old` bit for bit.

  On CPUs this is a branch, since an elementwise choice reads and writes all of
  `old` once more. On accelerators it is an elementwise choice, which is fused
  into the update; a branch would wait for the host.

  Args:
    condition: bool[].
    update: returns a pytree like `old`; traced once for all platforms.
    old: pytree of arrays.

  Returns:
    A pytree like `old`.
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

  The calls are compiled together with the code around them.

  Args:
    function: function of arrays, and of hashable values at `static_argnums`.
    static_argnums: positions of the arguments that are not arrays.

  Returns:
    The function with a cache of its traces.
  """
  return functools.wraps(function)(
    jax.jit(function, static_argnums=static_argnums)
  )
