"""Settings to data, model and optimizer: the parts of an experiment.

Every function takes the whole settings (see `nfnets/config.py`) and gives
plain arguments to the package. Entry points call these, so that training,
evaluation and the tools that look at them see the same thing.
"""

from typing import Any, NamedTuple

import jax
import ml_collections
import optax
from jax import lax

from nfnets import errors, models
from nfnets.augment import preprocess as preprocess_lib
from nfnets.data import batches, pipeline, sources
from nfnets.data import source as source_lib
from nfnets.experiment import config as config_lib
from nfnets.optim import masks, optimizer, schedules
from nfnets.training import gradient


class Lengths(NamedTuple):
  """Durations, in steps.

  Attributes:
    total: of the run.
    warmup: of the learning rate.
    eval_every: between evaluations.
    checkpoint_every: between checkpoints.
  """

  total: int
  warmup: int
  eval_every: int
  checkpoint_every: int


def load_source(
  config: ml_collections.ConfigDict, use: str
) -> source_lib.Source:
  """Opens the split for `use`: 'train' or 'eval'."""
  return sources.load_source(
    config.dataset,
    config.data[f'{use}_split'],
    data_dir=config.data.data_dir or None,
  )


def make_model(
  config: ml_collections.ConfigDict, num_classes: int
) -> models.Model:
  """Makes the network, with what `config.model` overrides."""
  return models.create_model(
    config.model.name, num_classes, **model_overrides(config)
  )


def make_training_model(
  config: ml_collections.ConfigDict, model: models.Model
) -> models.Model:
  """The network as it is trained: with `config.freeze`, its head alone.

  Gradients of what is frozen are zero and cost no backward pass; neither the
  reported norm nor the ascent of SAM sees them.
  """
  if not config.freeze:
    return model

  def apply(params: Any, *args: Any, **kwargs: Any) -> Any:
    held = jax.tree.map(
      lambda param, trains: param if trains else lax.stop_gradient(param),
      params,
      masks.head_mask(params),
    )
    return model.apply(held, *args, **kwargs)

  return model._replace(apply=apply)


def make_gradient(
  config: ml_collections.ConfigDict,
  model: models.Model,
  preprocess: preprocess_lib.Preprocess,
) -> gradient.GradientFn:
  """Makes what one device computes from its part of a batch."""
  return gradient.make_gradient(
    make_training_model(config, model),
    preprocess,
    label_smoothing=config.train.label_smoothing,
    dtype=config.train.dtype,
    accumulation=config.train.accumulation,
    sam_rho=config.train.sam_rho or None,
    sam_share=config.train.sam_share,
    seed=config.seed,
  )


def model_overrides(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """The settings of the model that differ from its table."""
  return {
    key: value
    for key, value in config.model.items()
    if key != 'name' and value is not None
  }


def lengths(config: ml_collections.ConfigDict, examples: int) -> Lengths:
  """Resolves every duration.

  Args:
    config: the settings.
    examples: images to train on; one epoch is as many outputs.

  Raises:
    UserError: the run has no step, or does not outlast its warm-up.
  """
  batch_size = config.train.batch_size
  result = Lengths(
    total=config_lib.steps(config.train, '', examples, batch_size),
    warmup=config_lib.steps(config.optimizer, 'warmup_', examples, batch_size),
    eval_every=max(
      1, config_lib.steps(config.eval, 'every_', examples, batch_size)
    ),
    checkpoint_every=max(
      1, config_lib.steps(config.checkpoint, 'every_', examples, batch_size)
    ),
  )
  if result.total < 1:
    raise errors.UserError(
      f'config.train.epochs={config.train.epochs:g} of {examples} images are'
      f' {result.total} steps of batch {batch_size}: take more epochs or a'
      ' smaller config.train.batch_size'
    )
  if result.warmup >= result.total:
    raise errors.UserError(
      f'a warm-up of {result.warmup} steps does not fit in {result.total}'
      ' steps: shorten config.optimizer.warmup_epochs (or warmup_steps) or'
      ' lengthen config.train.epochs (or steps)'
    )
  return result


def check_batch_size(config: ml_collections.ConfigDict) -> None:
  """Refuses a batch that devices and micro-batches do not divide.

  Raises:
    UserError: names the nearest sizes that would do.
  """
  size = config.train.batch_size
  unit = jax.device_count() * config.train.accumulation
  if size % unit == 0:
    return
  below, above = size // unit * unit, (size // unit + 1) * unit
  nearest = f'{below} or {above}' if below else f'{above}'
  raise errors.UserError(
    f'config.train.batch_size={size} does not divide into'
    f' {jax.device_count()} device(s) x {config.train.accumulation}'
    f' micro-batch(es): take {nearest}'
  )


def make_preprocess(
  config: ml_collections.ConfigDict, model: models.Model
) -> preprocess_lib.Preprocess:
  """Makes what augments and normalises a training batch."""
  augment = config.augment
  layers = augment.randaugment_layers
  return preprocess_lib.make_preprocess(
    num_classes=model.config.num_classes,
    mean=model.config.mean,
    std=model.config.std,
    flip=augment.flip,
    randaugment=(layers, augment.randaugment_magnitude) if layers else None,
    mixup_alpha=augment.mixup_alpha or None,
    cutmix_alpha=augment.cutmix_alpha or None,
    augment_before_mix=augment.augment_before_mix,
    reference_quirks=augment.reference_quirks,
  )


def make_schedule(
  config: ml_collections.ConfigDict, length: Lengths
) -> optax.Schedule:
  """Makes the learning rate: linear warm-up, then half a cosine."""
  peak = config.optimizer.learning_rate
  if config.optimizer.learning_rate_batch:
    peak *= config.train.batch_size / config.optimizer.learning_rate_batch
  return schedules.warmup_cosine(
    peak,
    length.warmup,
    length.total,
    end=config.optimizer.final_learning_rate,
  )


def optimizer_options(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """What decides about groups of parameters, for optimizer and summary."""
  return {
    'weight_decay': config.optimizer.weight_decay,
    'clipping': config.optimizer.clipping or None,
    'trainable': masks.head_mask if config.freeze else None,
  }


def make_optimizer(
  config: ml_collections.ConfigDict, schedule: optax.Schedule
) -> optax.GradientTransformation:
  """Makes clipping, weight decay, momentum and learning rate."""
  return optimizer.make_optimizer(
    schedule,
    momentum=config.optimizer.momentum,
    nesterov=config.optimizer.nesterov,
    clip_eps=config.optimizer.clip_eps,
    **optimizer_options(config),
  )


def image_size(config: ml_collections.ConfigDict, model: models.Model) -> int:
  """Side of the training images in pixels."""
  return config.data.image_size or model.config.train_size


def train_batches(
  config: ml_collections.ConfigDict,
  source: source_lib.Source,
  model: models.Model,
  images_per_example: int,
) -> batches.Batches:
  """Makes this process's training batches: batch k belongs to step k."""
  return pipeline.train_batches(
    source,
    batch_size=config.train.batch_size * images_per_example,
    image_size=image_size(config, model),
    seed=config.seed,
    area_range=config.data.area_range,
    aspect_range=config.data.aspect_range,
    scaled_decoding=config.data.scaled_decoding,
    **_reading(config),
  )


def eval_batches(
  config: ml_collections.ConfigDict,
  source: source_lib.Source,
  model: models.Model,
) -> batches.Batches:
  """Makes this process's evaluation batches: every image exactly once."""
  devices = jax.device_count()
  return pipeline.eval_batches(
    source,
    # Padding is masked, so that any size will do.
    batch_size=-(-config.eval.batch_size // devices) * devices,
    image_size=config.data.eval_size or model.config.test_size,
    preset=config.data.eval_preset,
    crop_pct=model.config.crop_pct,
    crop_mode=model.config.crop_mode,
    **_reading(config),
  )


def _reading(config: ml_collections.ConfigDict) -> dict[str, Any]:
  """Which slice of each batch is this process's, and how it is read."""
  return {
    'process_index': jax.process_index(),
    'process_count': jax.process_count(),
    'num_threads': config.data.num_threads or None,
    'num_workers': config.data.num_workers,
    'strict': config.data.strict,
    'max_unreadable_share': config.data.max_unreadable_share,
  }
