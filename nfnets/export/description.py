"""Describes an exported program to those who use it."""

from nfnets import weights


def describe(
  loaded: weights.Loaded,
  *,
  uint8: bool = False,
  probabilities: bool = False,
  preprocess: bool = False,
) -> dict[str, object]:
  """Returns what a user of a program must know, as values for JSON.

  Args:
    loaded: the network.
    uint8: whether the input is uint8, not normalized.
    probabilities: whether the output is probabilities, not logits.
    preprocess: whether the program resizes and crops images of any size.
  """
  config = loaded.model.config
  images = 'uint8' if uint8 else 'float32, normalized'
  return {
    'input': 'uint8, any size' if preprocess else images,
    'output': 'probabilities' if probabilities else 'logits',
    'size': config.test_size,
    'eval_preset': loaded.eval_preset,
    'crop_pct': config.crop_pct,
    'crop_mode': config.crop_mode,
    'mean': config.mean,
    'std': config.std,
    'class_names': loaded.class_names,
  }
