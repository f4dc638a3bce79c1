"""Builds model, gradient, optimizer and evaluation from the settings.

Every function takes all settings (see `settings.py`) and calls the rest of the
package with plain arguments; `inputs.py` does the same for the data.
"""

import functools
from typing import NamedTuple

import ml_collections
import numpy as np
import optax

from nfnets import errors, models
from nfnets.augment import preprocess as preprocess_lib
from nfnets.data import source as source_lib
from nfnets.experiment import config as config_lib
from nfnets.experiment import inputs, kinds
from nfnets.models import registry
from nfnets.optim import masks, optimizer, schedules
from nfnets.training import evaluate as evaluate_lib
from nfnets.training import gradient
from nfnets.training import step as step_lib


class Lengths(NamedTuple):
  """Lengths of a run and its intervals, in steps.

  Attributes:
    total: length of the run.
    warmup: length of the learning rate's warm-up.
    eval_every: interval between evaluations.
    checkpoint_every: interval between checkpoints.
  """

  total: int
  warmup: int
  eval_every: int
  checkpoint_every: int


class ModelOptions(NamedTuple):
  """The settings in `config.model`, except the name.

  All are fields of `models.config.ModelConfig`. None keeps the value in the
  table of models.
  """

  stem: str | None
  width: float | None
  widths: tuple[int, ...] | None
  depth: tuple[int, ...] | None
  bottleneck_ratio: float | None
  extra_conv: bool | None
  group_size: int | None
  se_ratio: float | None
  drop_rate: float | None
  stochdepth_rate: float | None
  activation: str | None
  alpha: float | None
  skip_gain_init: float | None
  remat: bool


class _Treatment(NamedTuple):
  """What the optimizer does to each group of parameters.

  Attributes:
    name: 'sgd', 'adamw' or 'lamb'.
    weight_decay: coefficient on weights; gains and biases have none.
    layer_decay: factor on the learning rate per layer; 1 disables it.
    clipping: AGC's threshold; None disables it.
    clip_norm: largest norm of the whole gradient; None: no limit.
    trainable: mask of the parameters to train; None trains all.
  """

  name: str
  weight_decay: float
  layer_decay: float
  clipping: float | None
  clip_norm: float | None
  trainable: optimizer.Trainable | None


def make_model(
  config: ml_collections.ConfigDict, num_classes: int
) -> models.Model:
  """Builds the network.

  Args:
    config: the settings.
    num_classes: number of classes in the data set.

  Raises:
    UserError: there is no such model, or it cannot have these settings.
  """
  settings = config.model
  options = ModelOptions(*(settings[name] for name in ModelOptions._fields))
  given = {k: v for k, v in options._asdict().items() if v is not None}
  try:
    return models.create_model(settings.name, num_classes, **given)
  except errors.UserError as error:
    known = settings.name in models.list_models()
    where = 'config.model' if known else 'config.model.name'
    raise errors.UserError(f'{where}: {error}') from error


def make_gradient(
  config: ml_collections.ConfigDict,
  model: models.Model,
  preprocess: preprocess_lib.Preprocess,
  class_weights: np.ndarray | None = None,
) -> gradient.GradientFn:
  """Builds the function that computes one device's loss and gradient.

  Args:
    config: the settings.
    model: the network.
    preprocess: from `inputs.make_preprocess`.
    class_weights: from `inputs.class_weights`.
  """
  frozen = config_lib.frozen_parts(config)
  return gradient.make_gradient(
    models.frozen(model, frozen) if frozen else model,
    preprocess,
    label_smoothing=config.train.label_smoothing,
    class_weights=class_weights,
    dtype=config.train.dtype,
    accumulation=config.train.accumulation,
    sam_rho=config.train.sam_rho or None,
    sam_share=config.train.sam_share,
    seed=config.seed,
  )


def lengths(config: ml_collections.ConfigDict, examples: int) -> Lengths:
  """Converts every length in the settings to steps.

  Args:
    config: the settings.
    examples: number of training images.

  Raises:
    UserError: the run has no steps or too many, or the warm-up does not end
      before it.
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
  found = (
    f'config.train.epochs={config.train.epochs:g} of {examples} images are'
    f' {result.total} steps of batch {batch_size}:'
  )
  if result.total < 1:
    raise errors.UserError(
      f'{found} increase config.train.epochs or reduce config.train.batch_size'
    )
  if result.total > kinds.LARGE:
    raise errors.UserError(f'{found} at most {kinds.LARGE} are possible')
  if result.warmup >= result.total:
    raise errors.UserError(
      f'a warm-up of {result.warmup} steps does not fit in {result.total}'
      ' steps: reduce config.optimizer.warmup_epochs (or warmup_steps) or'
      ' increase config.train.epochs (or steps)'
    )
  return result


def check_batch_size(
  config: ml_collections.ConfigDict, device_count: int
) -> None:
  """Checks that devices and micro-batches divide the batch.

  Args:
    config: the settings.
    device_count: number of devices in all processes.

  Raises:
    UserError: they do not; the message contains the nearest sizes that work.
  """
  size = config.train.batch_size
  unit = device_count * config.train.accumulation
  if size % unit == 0:
    return
  below, above = size // unit * unit, (size // unit + 1) * unit
  nearest = f'{below} or {above}' if below else f'{above}'
  raise errors.UserError(
    f'config.train.batch_size={size} is not divisible by'
    f' {device_count} device(s) x {config.train.accumulation}'
    f' micro-batch(es): use {nearest}'
  )


def make_schedule(
  config: ml_collections.ConfigDict, length: Lengths
) -> optax.Schedule:
  """Builds the learning rate: linear warm-up, then half a cosine."""
  return schedules.warmup_cosine(
    config_lib.peak_learning_rate(config),
    length.warmup,
    length.total,
    end=config.optimizer.final_learning_rate,
  )


def make_optimizer(
  config: ml_collections.ConfigDict,
  model: models.Model,
  schedule: optax.Schedule,
) -> optax.GradientTransformation:
  """Builds clipping, weight decay, moments and learning rate."""
  treatment = _treatment(config, model)
  return optimizer.make_optimizer(
    schedule,
    name=treatment.name,
    momentum=config.optimizer.momentum,
    nesterov=config.optimizer.nesterov,
    beta1=config.optimizer.beta1,
    beta2=config.optimizer.beta2,
    eps=config.optimizer.eps,
    weight_decay=treatment.weight_decay,
    layer_decay=treatment.layer_decay,
    clipping=treatment.clipping,
    clip_eps=config.optimizer.clip_eps,
    clip_norm=treatment.clip_norm,
    trainable=treatment.trainable,
  )


def describe_groups(
  config: ml_collections.ConfigDict,
  model: models.Model,
  params: registry.Params,
) -> list[optimizer.Group]:
  """Describes what `make_optimizer` does to each group of parameters.

  Args:
    config: the settings.
    model: the network.
    params: the parameters, or their shapes from `jax.eval_shape`.
  """
  treatment = _treatment(config, model)
  return optimizer.describe_groups(
    params,
    name=treatment.name,
    weight_decay=treatment.weight_decay,
    layer_decay=treatment.layer_decay,
    clipping=treatment.clipping,
    clip_norm=treatment.clip_norm,
    trainable=treatment.trainable,
  )


def _treatment(
  config: ml_collections.ConfigDict, model: models.Model
) -> _Treatment:
  frozen = config_lib.frozen_parts(config)
  trained = functools.partial(
    masks.trained_mask, frozen=frozen, depth=model.config.depth
  )
  return _Treatment(
    name=config.optimizer.name,
    weight_decay=config.optimizer.weight_decay,
    layer_decay=config.optimizer.layer_decay,
    clipping=config.optimizer.clipping or None,
    clip_norm=config.optimizer.clip_norm or None,
    trainable=trained if frozen else None,
  )


def make_evaluation(
  config: ml_collections.ConfigDict,
  model: models.Model,
  eval_step: step_lib.EvalStep,
  source: source_lib.Source,
) -> evaluate_lib.Evaluation:
  """Builds the function that evaluates a train state on a held-out split.

  Args:
    config: the settings.
    model: the network in training.
    eval_step: from `steps.make_eval_step`.
    source: the held-out split; each call reads it once.

  Returns:
    See `training.evaluate.Evaluation`.
  """
  return evaluate_lib.Evaluation(
    eval_step,
    inputs.eval_batches(config, source, model),
    step_lib.make_fold(models.folded(model)[1]),
  )
