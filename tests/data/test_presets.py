import numpy as np

from nfnets.data import crops, presets
from tests.data import pictures


def test_each_preset_crops_differently():
  results = set()
  for preset in presets.EVAL_PRESETS:
    out = np.zeros((32, 32, 3), np.uint8)
    crops.eval_crop(pictures.photograph(), out, preset, 0.9, 'squash')
    results.add(out.tobytes())
  assert len(results) == len(presets.EVAL_PRESETS) == 3
