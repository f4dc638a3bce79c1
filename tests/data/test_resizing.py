import numpy as np
import pytest
from PIL import Image

from nfnets.data import resizing
from tests.data import pictures


@pytest.mark.parametrize('size', [(40, 60), (51, 33), (300, 200), (64, 64)])
def test_antialiased_resize_against_pillow(size):
  image = pictures.photograph(150, 200)
  pillow = Image.fromarray(image).resize(size, Image.Resampling.BICUBIC)
  ours = resizing.resize_antialiased(image, size[1], size[0])
  assert np.abs(np.asarray(pillow).astype(int) - ours).max() <= 1
