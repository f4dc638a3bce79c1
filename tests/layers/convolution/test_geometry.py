import jax
import pytest

from nfnets.layers.convolution.geometry import Geometry


# Height, width, stride, padding and the pads in pixels, by hand for 3x3.
@pytest.mark.parametrize(
  ('height', 'width', 'stride', 'padding', 'pads'),
  [
    (8, 7, 1, 'SAME', ((1, 1), (1, 1))),
    # An even size at stride 2 needs one pixel: it goes to the end.
    (8, 7, 2, 'SAME', ((0, 1), (1, 1))),
    (8, 7, 2, 'VALID', ((0, 0), (0, 0))),
    (8, 7, 2, ((2, 0), (1, 3)), ((2, 0), (1, 3))),
  ],
)
def test_padding_in_pixels(height, width, stride, padding, pads):
  inputs = jax.ShapeDtypeStruct((2, height, width, 6), 'float32')
  kernel = jax.ShapeDtypeStruct((3, 3, 2, 12), 'float32')
  geometry = Geometry.of(
    inputs, kernel, stride=stride, padding=padding, groups=3
  )
  assert geometry == (stride, pads, 3)
  # A static argument of jitted functions.
  assert hash(geometry) == hash(Geometry(stride, pads, 3))
