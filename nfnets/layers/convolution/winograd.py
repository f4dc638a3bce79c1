"""3x3 convolutions on CPUs by Winograd's minimal filtering, F(2x2, 3x3).

Four outputs of a 3x3 filter take 16 multiplications per input channel instead
of 36. Overlapping tiles of 4x4 inputs, 2 pixels apart, and the filters are
transformed into 4x4 elements each. One matrix product per element then mixes
the channels, and a last transform turns the elements into 2x2 outputs. The
transforms are sums of shifted arrays. In float32, results differ from those of
a plain convolution by about a millionth of the largest.

`cpu` uses them for 3x3 convolutions of stride 1 with enough channels.

References:
  Lavin and Gray, `Fast algorithms for convolutional neural networks
  <https://arxiv.org/abs/1509.09308>`_, 2015, section 4.1.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax import lax

from nfnets import xla
from nfnets.layers.convolution.geometry import Geometry, Pads
from nfnets.runtime import cores

Matrix = tuple[tuple[float, ...], ...]
Grid = Sequence[Sequence[jax.Array]]

# The paper's B^T, G and A^T.
_INPUT: Matrix = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
_FILTER: Matrix = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
_OUTPUT: Matrix = ((1, 1, 1, 0), (0, 1, -1, -1))
# The order of a transformed filter's rows, and of its columns, that rotates the
# filter by 180 degrees.
_ROTATED = (3, 1, 2, 0)
# With fewer input or output channels per group, the transforms take longer than
# the multiplications that they save.
_MIN_CHANNELS, _MIN_OUTPUTS = 32, 64
# XLA runs matrix products below this many multiplications one after another on
# a single core each. On more cores than these, a convolution that uses all of
# them is faster.
_PARALLEL_SIZE, _FEW_CORES = 12_000_000, 2


def applies(inputs: jax.Array, kernel: jax.Array, geometry: Geometry) -> bool:
  """Returns whether Winograd's algorithm applies to a convolution and pays."""
  height, width, channels, outputs = kernel.shape
  return (
    (height, width, geometry.stride) == (3, 3, 1)
    and all(0 <= side < 3 for pad in geometry.pads for side in pad)
    and channels >= _MIN_CHANNELS
    and outputs // geometry.groups >= _MIN_OUTPUTS
    # The transforms lose digits that narrower types cannot spare.
    and inputs.dtype.itemsize >= 4
  )


def occupies_all_cores(
  inputs: jax.Array, kernel: jax.Array, groups: int
) -> bool:
  """Returns whether `forward` and `inputs_gradient` keep the cores busy."""
  batch, height, width, _ = inputs.shape
  *_, channels, outputs = kernel.shape
  positions = batch * -(-height // 2) * -(-width // 2)
  return (
    positions * channels * (outputs // groups) >= _PARALLEL_SIZE
    or cores.available() <= _FEW_CORES
  )


def forward(
  geometry: Geometry, inputs: jax.Array, kernel: jax.Array
) -> jax.Array:
  """Computes the convolution, float[B, H', W', O].

  Args:
    geometry: the convolution's pads and groups; stride 1.
    inputs: float[B, H, W, C].
    kernel: float[3, 3, C // groups, O].
  """
  filters = _filters(kernel, geometry.groups)
  return _convolve(inputs, filters, geometry.pads)


def inputs_gradient(
  geometry: Geometry, kernel: jax.Array, cotangent: jax.Array
) -> jax.Array:
  """Computes the gradient of the inputs, float[B, H, W, C].

  This is the convolution of the cotangent with the rotated filters. After their
  transform these are the filters of `forward` in another order: XLA transforms
  them once for both.

  Args:
    geometry: the convolution's pads and groups; stride 1.
    kernel: float[3, 3, C // groups, O].
    cotangent: float[B, H', W', O].
  """
  filters = _filters(kernel, geometry.groups)
  pads = tuple((2 - low, 2 - high) for low, high in geometry.pads)
  return _convolve(cotangent, filters, pads, backward=True)


def kernel_gradient(
  geometry: Geometry, inputs: jax.Array, cotangent: jax.Array
) -> jax.Array:
  """Computes the gradient of the kernel, float[3, 3, C // groups, O].

  Args:
    geometry: the convolution's pads and groups; stride 1.
    inputs: float[B, H, W, C].
    cotangent: float[B, H', W', O].
  """
  groups = geometry.groups
  # Otherwise XLA computes the tiles before the cotangent is known, and keeps
  # them until then.
  inputs, cotangent = xla.materialize((inputs, cotangent))
  errors = _apart(cotangent, groups)
  tiles = _tiles(_apart(inputs, groups), geometry.pads, errors.shape[1:3])
  quads = _quads(errors)
  # 4 of float[4, groups, C // groups, O // groups]
  products = [
    lax.dot_general(
      _flat(tile, groups), _flat(quad, groups), (((2,), (2,)), ((0, 1), (0, 1)))
    )
    for tile, quad in zip(tiles, quads, strict=True)
  ]
  back = _transposed(_FILTER)
  columns = jnp.stack(_combinations(back, products), axis=1)
  # float[3, 3, groups, C // groups, O // groups]
  kernel = jnp.stack(_combinations(back, list(columns)))
  channels = kernel.shape[3]
  return jnp.moveaxis(kernel, 2, 3).reshape(3, 3, channels, -1)


def _convolve(
  inputs: jax.Array,
  filters: Sequence[jax.Array],
  pads: Pads,
  *,
  backward: bool = False,
) -> jax.Array:
  """Convolves with transformed filters, rotated for the backward pass."""
  groups = filters[0].shape[1]
  batch, *sizes, _ = inputs.shape
  height, width = (
    size + sum(pad) - 2 for size, pad in zip(sizes, pads, strict=True)
  )
  order = _ROTATED if backward else range(4)
  tiles = _tiles(_apart(inputs, groups), pads, (height, width), order)
  rows, columns = tiles[0].shape[2:4]
  axes = ((3,), (3 if backward else 2,)), ((0, 1), (0, 1))
  # 4 of float[4, groups, B * rows * columns, O // groups]
  products = [
    lax.dot_general(_flat(tile, groups), weights, axes)
    for tile, weights in zip(tiles, filters, strict=True)
  ]
  grid = [[products[j][i] for j in order] for i in order]
  outputs = _transform(_OUTPUT, grid)
  # float[groups, B * rows * columns, 2, 2, O // groups]
  squares = jnp.stack([jnp.stack(row, axis=2) for row in outputs], axis=2)
  squares = squares.reshape(groups, batch, rows, columns, 2, 2, -1)
  return squares.transpose(1, 2, 4, 3, 5, 0, 6).reshape(
    batch, 2 * rows, 2 * columns, -1
  )[:, :height, :width]


def _filters(kernel: jax.Array, groups: int) -> list[jax.Array]:
  """Computes G g G^T: 4 columns float[4, groups, C // groups, O // groups]."""
  apart = jnp.moveaxis(kernel.reshape(*kernel.shape[:3], groups, -1), 3, 2)
  rows = jnp.stack(_combinations(_FILTER, list(apart)))
  return _combinations(_FILTER, [rows[:, column] for column in range(3)])


def _tiles(
  inputs: jax.Array,
  pads: Pads,
  sizes: tuple[int, ...],
  order: Sequence[int] = range(4),
) -> list[jax.Array]:
  """Computes B^T d B of all tiles.

  Args:
    inputs: float[groups * B, H, W, C // groups].
    pads: ((top, bottom), (left, right)) in pixels.
    sizes: height and width of the outputs.
    order: order of the rows, and of the columns, of the 4x4 elements.

  Returns:
    4 columns float[4, groups * B, rows, columns, C // groups].
  """
  counts = [-(-size // 2) for size in sizes]
  ends = [
    2 * count + 2 - size - low
    for count, size, (low, _) in zip(
      counts, inputs.shape[1:3], pads, strict=True
    )
  ]
  padded = lax.pad(
    inputs,
    jnp.zeros((), inputs.dtype),
    (
      (0, 0, 0),
      *((low, end, 0) for (low, _), end in zip(pads, ends, strict=True)),
      (0, 0, 0),
    ),
  )
  rows, columns = (2 * count - 1 for count in counts)
  shifted = [
    [padded[:, i : i + rows : 2, j : j + columns : 2] for j in range(4)]
    for i in range(4)
  ]
  tiles = _transform(_INPUT, shifted)
  return _by_columns([[tiles[i][j] for j in order] for i in order])


def _quads(cotangent: jax.Array) -> list[jax.Array]:
  """Computes A y A^T, the gradient through the transform of the outputs.

  Args:
    cotangent: float[groups * B, H', W', O // groups].

  Returns:
    4 columns float[4, groups * B, rows, columns, O // groups].
  """
  _, height, width, _ = cotangent.shape
  even = jnp.pad(cotangent, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)))
  squares = [[even[:, i::2, j::2] for j in range(2)] for i in range(2)]
  return _by_columns(_transform(_transposed(_OUTPUT), squares))


def _apart(images: jax.Array, groups: int) -> jax.Array:
  """Separates groups: to float[groups * B, H, W, C // groups]."""
  if groups == 1:
    return images
  apart = jnp.moveaxis(images.reshape(*images.shape[:3], groups, -1), 3, 0)
  # Otherwise XLA reads the channels of all groups for each of the sums.
  return xla.materialize(apart.reshape(-1, *apart.shape[2:]))


def _flat(tiles: jax.Array, groups: int) -> jax.Array:
  """Flattens float[4, groups * B, rows, columns, C] to [4, groups, ..., C]."""
  return tiles.reshape(4, groups, -1, tiles.shape[-1])


def _by_columns(grid: Grid) -> list[jax.Array]:
  """Stacks each column of a grid of arrays into one array, rows first.

  Sixteen separate arrays would be four times as many programs to compile; a
  single array XLA would copy once more.
  """
  return [jnp.stack(column) for column in zip(*grid, strict=True)]


def _transform(matrix: Matrix, grid: Grid) -> list[list[jax.Array]]:
  """Returns matrix @ grid @ matrix^T."""
  rows = zip(
    *(_combinations(matrix, column) for column in zip(*grid, strict=True)),
    strict=True,
  )
  return [_combinations(matrix, row) for row in rows]


def _combinations(
  matrix: Matrix, arrays: Sequence[jax.Array]
) -> list[jax.Array]:
  """Returns matrix @ arrays, without multiplying by zero and one."""
  return [_combination(factors, arrays) for factors in matrix]


def _combination(
  factors: Sequence[float], arrays: Sequence[jax.Array]
) -> jax.Array:
  terms = [
    (factor, array)
    for factor, array in zip(factors, arrays, strict=True)
    if factor
  ]
  total = None
  for factor, array in terms:
    term = array if abs(factor) == 1 else abs(factor) * array
    if total is None:
      total = term if factor > 0 else -term
    else:
      total = total + term if factor > 0 else total - term
  return total


def _transposed(matrix: Matrix) -> Matrix:
  return tuple(zip(*matrix, strict=True))
