"""The one place that decides how a (grouped) convolution is lowered.

XLA's own lowering is right for TPUs. On CPUs its grouped convolutions run far
below what the same work reaches as dense convolutions or matrix products, most
of all their weight gradients; `convolution_cpu` has those. The choice is made
per platform when a program is lowered, so that a program exported from one
platform for others is right for each.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Literal, get_args

import jax
from jax import lax

from nfnets import xla
from nfnets.layers.convolution import cpu, dense

Padding = str | tuple[tuple[int, int], tuple[int, int]]
Lowering = Literal['plain', 'grouped_dense', 'matmul']

# Part of the key of JAX's caches: a jitted function called under another
# lowering is traced again.
_forced = jax.make_user_context(default_value=None)


@contextlib.contextmanager
def lowering(name: Lowering) -> Iterator[None]:
  """Forces how `conv2d` is lowered, for experiments and for counting.

  Args:
    name: 'plain' (one XLA convolution each), 'grouped_dense' (one dense
      convolution per group, 1x1 as a matrix product) or 'matmul' (everything
      as matrix products).

  Yields:
    Nothing; functions traced inside the context use that lowering.

  Raises:
    ValueError: if there is no lowering of that name.
  """
  if name not in get_args(Lowering):
    raise ValueError(
      f'lowering is {name!r}, expected one of {get_args(Lowering)}'
    )
  with _forced(name):
    yield


def conv2d(
  inputs: jax.Array,
  kernel: jax.Array,
  *,
  stride: int = 1,
  padding: Padding = 'SAME',
  groups: int = 1,
) -> jax.Array:
  """Two-dimensional (grouped) cross-correlation, NHWC by HWIO.

  Differentiable in reverse mode, any number of times; forward mode needs
  `lowering('plain')`.

  Args:
    inputs: float[B, H, W, C].
    kernel: float[kh, kw, C // groups, O], cast to the inputs' dtype.
    stride: step in pixels along both axes.
    padding: 'SAME' (as TensorFlow pads: the odd pixel at the end), 'VALID' or
      explicit ((top, bottom), (left, right)) pixels.
    groups: number of groups that channels are split into.

  Returns:
    float[B, H', W', O], dtype of the inputs.
  """
  kernel = kernel.astype(inputs.dtype)
  geometry = dense.Geometry(
    stride, _pads(inputs, kernel, stride, padding), groups
  )
  with jax.named_scope(_scope(kernel, stride, groups)):
    if _forced.value == 'plain':
      return dense.plain(inputs, kernel, geometry)
    return _conv2d_once(geometry, _forced.value, inputs, kernel)


def _scope(kernel: jax.Array, stride: int, groups: int) -> str:
  """The kind of convolution, as profiles name it."""
  height, width = kernel.shape[:2]
  kind = f'conv2d_{height}x{width}'
  if groups > 1:
    kind += '_grouped'
  return f'{kind}_stride{stride}' if stride > 1 else kind


def _pads(
  inputs: jax.Array, kernel: jax.Array, stride: int, padding: Padding
) -> tuple[tuple[int, int], ...]:
  if not isinstance(padding, str):
    return padding
  pads = lax.padtype_to_pads(
    inputs.shape[1:3], kernel.shape[:2], (stride, stride), padding
  )
  return tuple((int(low), int(high)) for low, high in pads)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _conv2d(
  geometry: dense.Geometry,
  forced: Lowering | None,
  inputs: jax.Array,
  kernel: jax.Array,
) -> jax.Array:
  return _by_platform('forward', geometry, forced, inputs, kernel)


def _conv2d_forward(
  geometry: dense.Geometry,
  forced: Lowering | None,
  inputs: jax.Array,
  kernel: jax.Array,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  outputs = _by_platform('forward', geometry, forced, inputs, kernel)
  return outputs, (inputs, kernel)


def _conv2d_backward(
  geometry: dense.Geometry,
  forced: Lowering | None,
  residuals: tuple[jax.Array, jax.Array],
  cotangent: jax.Array,
) -> tuple[jax.Array, jax.Array]:
  return (
    _by_platform('inputs', geometry, forced, *residuals, cotangent),
    _by_platform('kernel', geometry, forced, *residuals, cotangent),
  )


_conv2d.defvjp(_conv2d_forward, _conv2d_backward)
_conv2d_once = xla.trace_once(_conv2d, static_argnums=(0, 1))


def _by_platform(
  part: cpu.Part,
  geometry: dense.Geometry,
  forced: Lowering | None,
  *operands: jax.Array,
) -> jax.Array:
  """One of a convolution's three products, lowered for its platform."""
  if forced is not None:
    return _branch(part, geometry, forced)(*operands)
  return lax.platform_dependent(
    *operands,
    cpu=_branch(part, geometry, 'auto'),
    default=_branch(part, geometry, 'plain'),
  )


@functools.cache
def _branch(
  part: cpu.Part, geometry: dense.Geometry, name: str
) -> Callable[..., jax.Array]:
  # Cached since JAX's tracing cache knows functions by identity: equal
  # convolutions are then traced once.
  return functools.partial(cpu.PARTS[part], geometry, name)
