import numpy as np
import pytest
from PIL import Image

from nfnets.data import resizing
from tests.data import pictures


@pytest.mark.parametrize('size', [(40, 60), (51, 33), (300, 200), (64, 64)])
def test_antialiased_resize_against_pillow(size):
  image = pictures.photograph(150, 200)
  width, height = size
  pillow = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
  whole = range(height), range(width)
  ours = resizing.resize_antialiased(image, height, width, *whole)
  assert np.abs(np.asarray(pillow).astype(int) - ours).max() <= 1
  part = range(5, 20), range(width // 4, width)
  np.testing.assert_array_equal(
    resizing.resize_antialiased(image, height, width, *part),
    ours[5:20, width // 4 :],
  )
