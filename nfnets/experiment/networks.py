"""Reads the networks that an evaluation measures."""

import pathlib
from typing import NamedTuple

import jax.numpy as jnp
import ml_collections

from nfnets import errors, models
from nfnets.experiment import build, checks, reports, resume
from nfnets.experiment import config as config_lib
from nfnets.inference import runs
from nfnets.models import registry
from nfnets.training import checkpoint, checkpoint_files
from nfnets.training import state as state_lib
from nfnets.training import workdir as workdir_lib
from nfnets.weights import class_names, loading, sources, tree


class Network(NamedTuple):
  """Weights to evaluate.

  Attributes:
    model: the network in training.
    state: the weights and, if the run averages them, the average.
    names: {prefix of the metrics: name to print}.
    class_names: one per class.
    path: the file or folder that they are from, for messages.
    run: the folder of their run; None if they are from a file.
    step: the step of the run; None if they are from a file.
  """

  model: models.Model
  state: state_lib.TrainState
  names: dict[str, str]
  class_names: tuple[str, ...]
  path: str
  run: pathlib.Path | None = None
  step: int | None = None


def read(
  config: ml_collections.ConfigDict,
  weights: str,
  *,
  best: bool = False,
  any_model: bool = False,
) -> Network:
  """Reads weights from any source.

  Args:
    config: the settings.
    weights: a file or id that `weights.load` reads, or the workdir of a run,
      whose network is that of its own settings.
    best: whether to read a workdir's checkpoint with the best held-out
      accuracy, not the latest.
    any_model: whether a file may hold another model than that of the settings.

  Raises:
    UserError: they cannot be read, do not fit the model, or have no classifier;
      or `best` does not apply.
  """
  workdir = pathlib.Path(weights)
  if runs.is_workdir(workdir):
    return from_run(None, workdir, best)
  if best:
    raise runs.not_a_workdir(workdir)
  contents = sources.read(weights, config.model.name)
  names = class_names.resolve(
    tree.num_classes(contents.params), contents.class_names
  )
  if not names:
    raise errors.UserError(
      f'{weights}: a backbone without a classifier cannot be evaluated; choose'
      ' a file with a classifier'
    )
  if any_model and contents.name is not None:
    model, params, state = loading.load_model(weights, contents.name)[:3]
  else:
    model = build.make_model(config, len(names))
    params, state = loading.unpack(contents, model)
  trained = _without_optimizer(params, state)
  return Network(model, trained, {'': weights}, names, weights)


def from_run(
  config: ml_collections.ConfigDict | None,
  workdir: pathlib.Path,
  best: bool = False,
) -> Network:
  """Reads the weights of a run, and their average if the run kept one.

  Args:
    config: the settings, which must describe the run's network; None: the run's
      own.
    workdir: the run's folder.
    best: whether to read the checkpoint with the best held-out accuracy, not
      the latest.

  Raises:
    UserError: there is no checkpoint, or it is of another network.
  """
  checkpoints = workdir / workdir_lib.CHECKPOINTS
  step = runs.best_step(workdir) if best else None
  saved = checkpoint.read_weights(checkpoints, step, ema=False)
  known = class_names.resolve(
    tree.num_classes(tree.flatten(saved.params)),
    tuple(saved.dataset['class_names']) if saved.dataset else (),
  )
  if config is None:
    config = _own_settings(saved, workdir)
  model = build.make_model(config, len(known))
  resume.check_network(config, model, saved, workdir)
  state = _without_optimizer(saved.params, saved.state)
  prefixes = ['']
  run = saved.config or config_lib.flatten(config)
  if run.get('train.ema_decay'):
    saved = checkpoint.read_weights(checkpoints, saved.step, ema=True)
    state = state._replace(ema_params=saved.params, ema_state=saved.state)
    prefixes.append('ema_')
  names = {prefix: reports.run_name(prefix, saved.step) for prefix in prefixes}
  path = str(checkpoints / str(saved.step))
  return Network(model, state, names, known, path, workdir, saved.step)


def _own_settings(
  saved: checkpoint_files.Weights, workdir: pathlib.Path
) -> ml_collections.ConfigDict:
  """Returns the settings of the run that wrote a checkpoint."""
  if saved.config is None:
    raise errors.UserError(
      f'{workdir}: its checkpoints do not describe their network; evaluate it'
      ' with --config and --workdir'
    )
  values = config_lib.flatten(config_lib.base()) | dict(saved.config)
  try:
    return checks.from_flat(checks.check_values(values))
  except errors.UserError as error:
    raise errors.UserError(f'{workdir}: {error}') from error


def _without_optimizer(
  params: registry.Params, state: registry.State
) -> state_lib.TrainState:
  step = jnp.zeros((), jnp.int32)
  return state_lib.TrainState(params, state, (), {}, {}, step)
