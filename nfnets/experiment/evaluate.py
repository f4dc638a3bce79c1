"""Evaluates a network: --mode=eval."""

import pathlib
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections

from nfnets import errors
from nfnets.experiment import (
  build,
  checks,
  classes,
  fitting,
  inputs,
  resume,
  steps,
)
from nfnets.experiment import config as config_lib
from nfnets.models import registry
from nfnets.training import checkpoint, devices
from nfnets.training import state as state_lib
from nfnets.training import workdir as workdir_lib
from nfnets.weights import class_names, loading, sources, tree


class _Network(NamedTuple):
  """Weights to evaluate.

  Attributes:
    state: the weights and, if the run averages them, the average.
    names: {prefix of the metrics: name to print}.
    class_names: one per class.
    path: the file or folder that they are from, for messages.
  """

  state: state_lib.TrainState
  names: dict[str, str]
  class_names: tuple[str, ...]
  path: str


def evaluate(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  weights_file: str | None,
) -> int:
  """Prints the accuracy of a weights file, or of a run's latest checkpoint.

  Args:
    config: the settings.
    workdir: the run's folder; read only if there is no weights file.
    weights_file: a file or an id that `weights.load` reads, or None.

  Returns:
    The exit status.

  Raises:
    UserError: there is nothing to evaluate, or it does not fit the model or
      the data set.
  """
  checks.check(config)
  source = inputs.load_source(config, 'eval')
  network = (
    _from_file(config, weights_file)
    if weights_file
    else _from_checkpoint(config, workdir / workdir_lib.CHECKPOINTS)
  )
  source = classes.align(source, network.class_names, network.path)
  model = build.make_model(config, source.num_classes)
  eval_step = steps.make_eval_step(model)
  evaluation = build.make_evaluation(config, model, eval_step, source)
  fitting.check_evaluation(config, model, eval_step, len(source))
  remedy = fitting.less_evaluation(config, len(source), jax.device_count())
  with fitting.explained(remedy, lambda: 'nothing was measured'):
    metrics = evaluation(devices.replicate(network.state), lambda: False)
  if devices.is_primary():
    for prefix, name in network.names.items():
      print(
        f'{name}: {_text(metrics, prefix)} on {metrics["eval/count"]} images of'
        f' {source.name} ({source.split})'
      )
  return 0


def _text(metrics: dict[str, float], prefix: str) -> str:
  """Formats the accuracies, as far as there are any, and the loss."""
  parts = [
    f'top-{k} {metrics[f"eval/{prefix}top{k}"]:.2%}'
    for k in (1, 5)
    if f'eval/{prefix}top{k}' in metrics
  ]
  return ', '.join([*parts, f'loss {metrics[f"eval/{prefix}loss"]:.4f}'])


def _from_file(
  config: ml_collections.ConfigDict, weights_file: str
) -> _Network:
  """Reads a weights file.

  Raises:
    UserError: it cannot be read, does not fit the settings' model, or has no
      classifier.
  """
  contents = sources.read(weights_file, config.model.name)
  names = class_names.resolve(
    tree.num_classes(contents.params), contents.class_names
  )
  if not names:
    raise errors.UserError(
      f'{weights_file}: a backbone without a classifier cannot be evaluated;'
      ' choose a file with a classifier'
    )
  model = build.make_model(config, len(names))
  params, state = loading.unpack(contents, model)
  return _Network(
    _without_optimizer(params, state), {'': weights_file}, names, weights_file
  )


def _from_checkpoint(
  config: ml_collections.ConfigDict, checkpoints: pathlib.Path
) -> _Network:
  """Reads the weights of a run's latest checkpoint, and their average if kept.

  Raises:
    UserError: there is no checkpoint, or it is of another network.
  """
  saved = checkpoint.read_weights(checkpoints, ema=False)
  known = class_names.resolve(
    tree.num_classes(tree.flatten(saved.params)),
    tuple(saved.dataset['class_names']) if saved.dataset else (),
  )
  model = build.make_model(config, len(known))
  resume.check_network(config, model, saved, checkpoints.parent)
  state = _without_optimizer(saved.params, saved.state)
  names = {'': f'weights of step {saved.step}'}
  run = saved.config or config_lib.flatten(config)
  if run.get('train.ema_decay'):
    saved = checkpoint.read_weights(checkpoints, saved.step, ema=True)
    state = state._replace(ema_params=saved.params, ema_state=saved.state)
    names['ema_'] = f'averaged weights of step {saved.step}'
  return _Network(state, names, known, str(checkpoints / str(saved.step)))


def _without_optimizer(
  params: registry.Params, state: registry.State
) -> state_lib.TrainState:
  step = jnp.zeros((), jnp.int32)
  return state_lib.TrainState(params, state, (), {}, {}, step)
