"""Evaluates a network: --mode=eval."""

import pathlib

import jax
import jax.numpy as jnp
import ml_collections

from nfnets import models, weights
from nfnets.experiment import build, checks, fitting, inputs, resume, steps
from nfnets.experiment import config as config_lib
from nfnets.models import registry
from nfnets.training import checkpoint, devices
from nfnets.training import state as state_lib
from nfnets.training import workdir as workdir_lib


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
  model = build.make_model(config, source.num_classes)
  eval_step = steps.make_eval_step(model)
  evaluation = build.make_evaluation(config, model, eval_step, source)
  state, names = (
    _from_file(weights_file, model)
    if weights_file
    else _from_checkpoint(config, workdir / workdir_lib.CHECKPOINTS, model)
  )
  fitting.check_evaluation(config, model, eval_step, len(source))
  remedy = fitting.less_evaluation(config, len(source), jax.device_count())
  with fitting.explained(remedy, lambda: 'nothing was measured'):
    metrics = evaluation(devices.replicate(state), lambda: False)
  if devices.is_primary():
    for prefix, name in names.items():
      print(
        f'{name}: top-1 {metrics[f"eval/{prefix}top1"]:.2%},'
        f' top-5 {metrics[f"eval/{prefix}top5"]:.2%},'
        f' loss {metrics[f"eval/{prefix}loss"]:.4f}'
        f' on {metrics["eval/count"]} images of {source.name} ({source.split})'
      )
  return 0


def _from_file(
  weights_file: str, model: models.Model
) -> tuple[state_lib.TrainState, dict[str, str]]:
  """Returns the weights, and {prefix of the metrics: name to print}."""
  params, state = weights.load_for(weights_file, model)
  return _without_optimizer(params, state), {'': weights_file}


def _from_checkpoint(
  config: ml_collections.ConfigDict,
  checkpoints: pathlib.Path,
  model: models.Model,
) -> tuple[state_lib.TrainState, dict[str, str]]:
  """Returns the weights and, if the run averages them, the average.

  As in `_from_file`, with the names to print.

  Raises:
    UserError: there is no checkpoint, or it is of another network.
  """
  saved = checkpoint.read_weights(checkpoints, ema=False)
  resume.check_network(config, model, saved, checkpoints.parent)
  state = _without_optimizer(saved.params, saved.state)
  names = {'': f'weights of step {saved.step}'}
  run = saved.config or config_lib.flatten(config)
  if run.get('train.ema_decay'):
    saved = checkpoint.read_weights(checkpoints, saved.step, ema=True)
    state = state._replace(ema_params=saved.params, ema_state=saved.state)
    names['ema_'] = f'averaged weights of step {saved.step}'
  return state, names


def _without_optimizer(
  params: registry.Params, state: registry.State
) -> state_lib.TrainState:
  step = jnp.zeros((), jnp.int32)
  return state_lib.TrainState(params, state, (), {}, {}, step)
