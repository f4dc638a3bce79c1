"""Evaluates networks: --mode=eval."""

import pathlib
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections

from nfnets import errors, models
from nfnets.data import source as source_lib
from nfnets.experiment import (
  build,
  checks,
  comparison,
  fitting,
  inputs,
  protocols,
  reports,
  resume,
  steps,
)
from nfnets.experiment import config as config_lib
from nfnets.models import registry
from nfnets.report import numbers
from nfnets.training import checkpoint, devices
from nfnets.training import state as state_lib
from nfnets.training import workdir as workdir_lib
from nfnets.weights import class_names, loading, sources, tree


class _Network(NamedTuple):
  """Weights to evaluate.

  Attributes:
    model: the network in training.
    state: the weights and, if the run averages them, the average.
    names: {prefix of the metrics: name to print}.
    class_names: one per class.
    path: the file or folder that they are from, for messages.
    step: the step of the run; None if they are from a file.
  """

  model: models.Model
  state: state_lib.TrainState
  names: dict[str, str]
  class_names: tuple[str, ...]
  path: str
  step: int | None = None


class _Measured(NamedTuple):
  """The predictions of a network, and what they are of.

  Attributes:
    task: the split and the classes.
    outcomes: {prefix: predictions}.
    seconds: the time that they took, reading the images included.
  """

  task: protocols.Task
  outcomes: dict[str, numbers.Outcomes]
  seconds: float


def evaluate(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  weights_files: Sequence[str] = (),
) -> int:
  """Evaluates weights files, or a run's latest checkpoint, and writes reports.

  Networks are evaluated in float32, as during training: on CPUs bfloat16 is
  slower.

  Args:
    config: the settings.
    workdir: the run's folder. The report of a weights file is in a folder of
      its own below `eval`.
    weights_files: files or ids that `weights.load` reads; if there are several,
      they are compared in a table, and each may hold its own model.

  Returns:
    The exit status.

  Raises:
    UserError: there is nothing to evaluate, or it does not fit the model or
      the data set.
  """
  checks.check(config)
  source = inputs.load_source(config, 'eval')
  if config.train.dtype != 'float32' and devices.is_primary():
    print(
      f'evaluating in float32: config.train.dtype={config.train.dtype} applies'
      ' to training only'
    )
  if not weights_files:
    network = _from_checkpoint(config, workdir / workdir_lib.CHECKPOINTS)
    measured = _measure(config, network, source)
    _print(measured, network, _report(config, network, measured, workdir))
    return 0
  rows: list[comparison.Row] = []
  folders = comparison.folders(workdir, weights_files)
  several = len(weights_files) > 1
  for weights_file, folder in zip(weights_files, folders, strict=True):
    network = (_from_any if several else _from_file)(config, weights_file)
    measured = _measure(config, network, source)
    page = _report(config, network, measured, folder)
    if several:
      rows.append(_row(weights_file, network, measured, page))
    else:
      _print(measured, network, page)
  if rows and devices.is_primary():
    comparison.show(rows, workdir)
  return 0


def _measure(
  config: ml_collections.ConfigDict,
  network: _Network,
  source: source_lib.Source,
) -> _Measured:
  """Runs the network on all images of the split."""
  task = protocols.make_task(source, network.class_names, network.path)
  eval_step = steps.make_eval_step(network.model, classes=task.classes)
  length = len(task.source)
  evaluation = build.make_evaluation(
    config, network.model, eval_step, task.source
  )
  fitting.check_evaluation(config, network.model, eval_step, length)
  remedy = fitting.less_evaluation(config, length, jax.device_count())
  start = time.perf_counter()
  with fitting.explained(remedy, lambda: 'nothing was measured'):
    evaluation(devices.replicate(network.state), lambda: False)
  seconds = time.perf_counter() - start
  found = evaluation.outcomes or {}
  return _Measured(
    task, {k: task.judge(outcomes) for k, outcomes in found.items()}, seconds
  )


def _report(
  config: ml_collections.ConfigDict,
  network: _Network,
  measured: _Measured,
  folder: pathlib.Path,
) -> pathlib.Path | None:
  """Writes the report in process 0; returns its page."""
  if not devices.is_primary():
    return None
  subject = reports.Subject(
    config,
    network.model,
    measured.task.source,
    measured.task.class_names,
    {network.names[k]: x for k, x in measured.outcomes.items()},
    None if network.step is None else folder,
    network.step,
  )
  return reports.write(subject, folder)


def _print(
  measured: _Measured, network: _Network, page: pathlib.Path | None
) -> None:
  """Prints a line for each set of weights, and the path of the report."""
  if not devices.is_primary():
    return
  source = measured.task.source
  for prefix, outcomes in measured.outcomes.items():
    summary = numbers.summarize(outcomes)
    print(
      f'{network.names[prefix]}: {_text(summary)} on {summary.images} images of'
      f' {source.name} ({source.split})'
    )
  if page:
    print(f'report: {page}')


def _text(summary: numbers.Summary) -> str:
  """Formats the accuracies and the loss, as far as they are known."""
  parts = [f'top-1 {summary.top1.value:.2%}']
  if summary.top5 is not None:
    parts.append(f'top-5 {summary.top5.value:.2%}')
  if summary.loss == summary.loss:
    parts.append(f'loss {summary.loss:.4f}')
  return ', '.join(parts)


def _row(
  weights_file: str,
  network: _Network,
  measured: _Measured,
  page: pathlib.Path | None,
) -> comparison.Row:
  count = sum(x.size for x in jax.tree.leaves(network.state.params))
  summary = numbers.summarize(measured.outcomes[''])
  return comparison.Row(weights_file, summary, count, measured.seconds, page)


def _from_file(
  config: ml_collections.ConfigDict, weights_file: str
) -> _Network:
  """Reads a weights file of the settings' model.

  Raises:
    UserError: it cannot be read, does not fit the settings' model, or has no
      classifier.
  """
  contents = sources.read(weights_file, config.model.name)
  names = class_names.resolve(
    tree.num_classes(contents.params), contents.class_names
  )
  if not names:
    raise _no_classifier(weights_file)
  model = build.make_model(config, len(names))
  params, state = loading.unpack(contents, model)
  return _of_file(weights_file, model, params, state, names)


def _from_any(config: ml_collections.ConfigDict, weights_file: str) -> _Network:
  """Reads a weights file of the model that it specifies, if it does.

  Raises:
    UserError: as in `_from_file`.
  """
  contents = sources.read(weights_file, config.model.name)
  if contents.name is None:
    return _from_file(config, weights_file)
  loaded = loading.load_model(weights_file, contents.name)
  if not loaded.class_names:
    raise _no_classifier(weights_file)
  return _of_file(
    weights_file, loaded.model, loaded.params, loaded.state, loaded.class_names
  )


def _no_classifier(weights_file: str) -> errors.UserError:
  return errors.UserError(
    f'{weights_file}: a backbone without a classifier cannot be evaluated;'
    ' choose a file with a classifier'
  )


def _of_file(
  weights_file: str,
  model: models.Model,
  params: registry.Params,
  state: registry.State,
  names: tuple[str, ...],
) -> _Network:
  return _Network(
    model,
    _without_optimizer(params, state),
    {'': weights_file},
    names,
    weights_file,
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
  prefixes = ['']
  run = saved.config or config_lib.flatten(config)
  if run.get('train.ema_decay'):
    saved = checkpoint.read_weights(checkpoints, saved.step, ema=True)
    state = state._replace(ema_params=saved.params, ema_state=saved.state)
    prefixes.append('ema_')
  names = {prefix: reports.run_name(prefix, saved.step) for prefix in prefixes}
  path = str(checkpoints / str(saved.step))
  return _Network(model, state, names, known, path, saved.step)


def _without_optimizer(
  params: registry.Params, state: registry.State
) -> state_lib.TrainState:
  step = jnp.zeros((), jnp.int32)
  return state_lib.TrainState(params, state, (), {}, {}, step)
