"""The convolution that layers call, and the choice of its lowering.

On GPUs and TPUs XLA's own convolution is used. On CPUs XLA's grouped
convolutions, and their weight gradients most of all, are far slower than the
same work as dense convolutions or matrix products, which `cpu` chooses from.
The choice is made for each platform when a program is lowered, so a program
exported for several platforms is right for each of them.
"""

import contextlib
import functools
from collections.abc import Callable, Iterator
from typing import Literal, get_args

import jax
from jax import lax

from nfnets import xla
from nfnets.layers.convolution import cpu, dense
from nfnets.layers.convolution.geometry import Geometry, Padding

Lowering = Literal['plain', 'grouped_dense', 'matmul']

# JAX's caches depend on it: a jitted function is traced again if it is called
# under another lowering.
_forced = jax.make_user_context(default_value=None)


@contextlib.contextmanager
def lowering(name: Lowering) -> Iterator[None]:
  """Forces one lowering of `conv2d`, for experiments and to count operations.

  Args:
    name: 'plain' (XLA's own convolution), 'grouped_dense' (one dense
      convolution per group, 1x1 as a matrix product) or 'matmul' (only matrix
      products).

  Yields:
    Nothing; functions traced inside the context use that lowering.

  Raises:
    ValueError: if the name is unknown.
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
  """Computes a two-dimensional (grouped) cross-correlation, NHWC with HWIO.

  It can be differentiated any number of times in reverse mode; forward mode
  needs `lowering('plain')`.

  Args:
    inputs: float[B, H, W, C].
    kernel: float[kh, kw, C // groups, O], cast to the inputs' dtype.
    stride: step in pixels along both axes.
    padding: 'SAME' (as in TensorFlow, with the odd pixel at the end), 'VALID'
      or explicit ((top, bottom), (left, right)) in pixels.
    groups: number of groups that channels are split into.

  Returns:
    float[B, H', W', O], dtype of the inputs.
  """
  kernel = kernel.astype(inputs.dtype)
  geometry = Geometry.of(
    inputs, kernel, stride=stride, padding=padding, groups=groups
  )
  with jax.named_scope(_scope(kernel, stride, groups)):
    if _forced.value == 'plain':
      return dense.plain(inputs, kernel, geometry)
    return _conv2d_once(geometry, _forced.value, inputs, kernel)


def _scope(kernel: jax.Array, stride: int, groups: int) -> str:
  """Returns the kind of convolution, for profiles."""
  height, width = kernel.shape[:2]
  kind = f'conv2d_{height}x{width}'
  if groups > 1:
    kind += '_grouped'
  return f'{kind}_stride{stride}' if stride > 1 else kind


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _conv2d(
  geometry: Geometry,
  forced: Lowering | None,
  inputs: jax.Array,
  kernel: jax.Array,
) -> jax.Array:
  return _by_platform('forward', geometry, forced, inputs, kernel)


def _conv2d_forward(
  geometry: Geometry,
  forced: Lowering | None,
  inputs: jax.Array,
  kernel: jax.Array,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
  outputs = _by_platform('forward', geometry, forced, inputs, kernel)
  return outputs, (inputs, kernel)


def _conv2d_backward(
  geometry: Geometry,
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
  geometry: Geometry,
  forced: Lowering | None,
  *operands: jax.Array,
) -> jax.Array:
  """Computes one of a convolution's three products as its platform needs."""
  if forced is not None:
    return _branch(part, geometry, forced)(*operands)
  return lax.platform_dependent(
    *operands,
    cpu=_branch(part, geometry, 'auto'),
    default=_branch(part, geometry, 'plain'),
  )


@functools.cache
def _branch(
  part: cpu.Part, geometry: Geometry, name: str
) -> Callable[..., jax.Array]:
  # JAX's tracing cache compares functions by identity: caching them here lets
  # equal convolutions be traced once.
  return functools.partial(cpu.PARTS[part], geometry, name)
