"""Settings of several studies, for images of about 32 pixels."""

from nfnets.experiment import kinds

_MICRO_BATCH = 64


def network() -> dict[str, kinds.Value]:
  """Returns the settings of a small network with four blocks.

  The stem keeps the resolution. Nothing is dropped, so that networks differ
  only in what a study varies.
  """
  return {
    'model.stem': 'small',
    'model.depth': (1, 1, 1, 1),
    'model.drop_rate': 0.0,
    'model.stochdepth_rate': 0.0,
  }


def images(dataset: str, size: int = 32) -> dict[str, kinds.Value]:
  """Returns the settings of a data set.

  Args:
    dataset: its name. Digits are not mirrored, and cropped less.
    size: side of all images in pixels.
  """
  digits = dataset == 'digits'
  return {
    'dataset': dataset,
    'data.image_size': size,
    'data.eval_size': size,
    # The published preset shows only the center of small images.
    'data.eval_preset': 'timm',
    'data.area_range': (0.6, 1.0) if digits else (0.4, 1.0),
    'augment.flip': not digits,
    'train.dtype': 'float32',
  }


def batches(size: int) -> dict[str, kinds.Value]:
  """Returns the settings of a batch of so many images.

  It is accumulated from micro-batches of at most 64 on one device, and fewer on
  each of several. So batch normalization, which uses the statistics of each
  micro-batch, is the same at all batch sizes. Micro-batches of 64 images of 16
  pixels fit a CPU's cache; 512 take twice the time per image.
  """
  return {
    'train.batch_size': size,
    'train.accumulation': -(-size // _MICRO_BATCH),
  }


def length(steps: int) -> dict[str, kinds.Value]:
  """Returns the settings of the length of a run.

  The warm-up takes 5/90 of it, as in the published recipe of ResNets. The run
  is evaluated at its end; there are four checkpoints to resume from.

  Args:
    steps: length of the run.
  """
  return {
    'train.steps': steps,
    'optimizer.warmup_steps': steps * 5 // 90,
    'optimizer.warmup_epochs': 0.0,
    'eval.every_steps': steps,
    'checkpoint.every_steps': -(-steps // 4),
    'checkpoint.keep': 4,
    'log.every_steps': max(1, steps // 50),
  }
