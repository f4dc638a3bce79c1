"""Builds and lowers the programs of a run.

JAX keeps a compiled program for later calls with arrays of the same shapes, so
compiling one of these early takes no extra time.
"""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import ml_collections
import numpy as np
import optax

from nfnets import models
from nfnets.data import growth
from nfnets.experiment import build, inputs
from nfnets.models import registry
from nfnets.training import devices, loop, reporting
from nfnets.training import state as state_lib
from nfnets.training import step as step_lib


class Steps(NamedTuple):
  """The programs of a run, and the parts that they are built from.

  Attributes:
    config: the settings.
    model: the network.
    optimizer: its optimizer.
    images_per_example: raw images per augmented one, see `Preprocess`.
    train: from `step.make_train_step`.
    evaluation: from `step.make_eval_step`.
    targets: devices of a topology to compile for; None: all devices.
  """

  config: ml_collections.ConfigDict
  model: models.Model
  optimizer: optax.GradientTransformation
  images_per_example: int
  train: step_lib.TrainStep
  evaluation: step_lib.EvalStep
  targets: Sequence[jax.Device] | None

  @property
  def device_count(self) -> int:
    """The number of devices in all processes."""
    return len(self.targets) if self.targets else jax.device_count()


def make_steps(
  config: ml_collections.ConfigDict,
  num_classes: int,
  schedule: optax.Schedule,
  targets: Sequence[jax.Device] | None = None,
  class_weights: np.ndarray | None = None,
) -> Steps:
  """Builds the programs of a run; compiles nothing.

  Args:
    config: the settings.
    num_classes: number of classes in the data set.
    schedule: from `build.make_schedule`.
    targets: devices of a topology to compile for; None: all devices.
    class_weights: from `inputs.class_weights`.
  """
  model = build.make_model(config, num_classes)
  optimizer = build.make_optimizer(config, model, schedule)
  preprocess = inputs.make_preprocess(config, model)
  train = step_lib.make_train_step(
    build.make_gradient(config, model, preprocess, class_weights),
    optimizer,
    schedule=schedule,
    ema_decay=config.train.ema_decay or None,
    targets=targets,
  )
  return Steps(
    config,
    model,
    optimizer,
    preprocess.images_per_example,
    train,
    make_eval_step(model, targets),
    targets,
  )


def create_state(steps: Steps) -> state_lib.TrainState:
  """Creates the state before the first step, with random parameters."""
  return state_lib.create_train_state(
    steps.model,
    steps.optimizer,
    jax.random.key(steps.config.seed, impl='threefry2x32'),
    inputs.image_size(steps.config, steps.model),
    ema=bool(steps.config.train.ema_decay),
    skips=bool(steps.config.train.skip_nonfinite),
  )


def state_shapes(steps: Steps) -> state_lib.TrainState:
  """Returns the shapes of `create_state(steps)`; computes nothing."""
  return jax.eval_shape(functools.partial(create_state, steps))


def train_arguments(
  steps: Steps,
) -> tuple[state_lib.TrainState, devices.DeviceBatch]:
  """Returns stand-ins for state and batch, to lower the train step with."""
  rows = steps.config.train.batch_size // steps.device_count
  return (
    devices.like_replicated(state_shapes(steps), steps.targets),
    devices.like_batch(
      rows * steps.images_per_example,
      inputs.image_size(steps.config, steps.model),
      steps.targets,
    ),
  )


def lower_train(steps: Steps) -> jax.stages.Lowered:
  """Lowers the train step for the batch in the settings."""
  return steps.train.lower(*train_arguments(steps))


def announcing_sizes(
  train_step: step_lib.TrainStep,
  stages: Sequence[growth.Stage],
  reporter: reporting.Reporter,
) -> loop.TrainStep:
  """Returns the train step, which prints when the size of the images changes.

  The step for the last size is compiled before a run starts, those for the
  other sizes when they are needed. The time for this does not count as
  training.

  Args:
    train_step: from `make_steps`.
    stages: from `inputs.image_sizes`.
    reporter: where to print.
  """
  if len(stages) == 1:
    return train_step
  compiled, current = {stages[-1].size}, 0

  def announced(
    state: state_lib.TrainState, batch: devices.DeviceBatch
  ) -> tuple[state_lib.TrainState, step_lib.Scalars]:
    nonlocal current
    size = batch['image'].shape[-2]
    if size == current:
      return train_step(state, batch)
    compiling = '' if size in compiled else ': compiling the train step'
    reporter.message(f'images of {size} px{compiling}')
    current = size
    compiled.add(size)
    with reporter.paused():
      return train_step(state, batch)

  return announced


def make_eval_step(
  model: models.Model,
  targets: Sequence[jax.Device] | None = None,
  classes: Sequence[int] | None = None,
) -> step_lib.EvalStep:
  """Builds the program that evaluates the folded network on a batch.

  Args:
    model: the network in training.
    targets: devices of a topology to compile for; None: all devices.
    classes: the classes that may be predicted; None: all. They count as 0, 1,
      ... in labels and predictions.
  """
  folded = models.folded(model)[0]
  return step_lib.make_eval_step(
    folded if classes is None else _limited(folded, classes),
    mean=model.config.mean,
    std=model.config.std,
    targets=targets,
  )


def _limited(model: models.Model, classes: Sequence[int]) -> models.Model:
  """Returns a network with the logits of some classes."""
  chosen = np.array(classes)

  def apply(
    params: registry.Params,
    state: registry.State,
    key: jax.Array | None,
    images: jax.Array,
    is_training: bool,
  ) -> tuple[tuple[jax.Array, registry.Endpoints], registry.State]:
    (logits, endpoints), state = model.apply(
      params, state, key, images, is_training
    )
    return (logits[:, chosen], endpoints), state

  return model._replace(apply=apply)


def folded_shapes(
  model: models.Model, size: int
) -> tuple[registry.Params, registry.State]:
  """Returns the shapes of what `make_eval_step` reads; computes nothing.

  Args:
    model: the network in training.
    size: side of the images in pixels.
  """
  images = jax.ShapeDtypeStruct((1, size, size, 3), 'float32')
  params, state = jax.eval_shape(model.init, jax.random.key(0), images)
  return jax.eval_shape(models.folded(model)[1], params), state


def lower_evaluation(
  config: ml_collections.ConfigDict,
  model: models.Model,
  eval_step: step_lib.EvalStep,
  examples: int,
  targets: Sequence[jax.Device] | None = None,
) -> jax.stages.Lowered:
  """Lowers the evaluation step.

  Args:
    config: the settings.
    model: the network in training.
    eval_step: from `make_eval_step`.
    examples: number of images in the held-out split.
    targets: devices of a topology to compile for; None: all devices.
  """
  count = len(targets) if targets else jax.device_count()
  rows = inputs.eval_batch_size(config, examples, count) // count
  size = inputs.eval_size(config, model)
  return eval_step.lower(
    *devices.like_replicated(folded_shapes(model, size), targets),
    devices.like_batch(rows, size, targets),
  )
