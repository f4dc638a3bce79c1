"""Evaluates networks: --mode=eval."""

import pathlib
import time
from collections.abc import Sequence
from typing import NamedTuple

import jax
import ml_collections

from nfnets.data import source as source_lib
from nfnets.experiment import (
  build,
  checks,
  comparison,
  fitting,
  inputs,
  networks,
  protocols,
  reports,
  steps,
)
from nfnets.report import numbers
from nfnets.training import devices


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
  best: bool = False,
) -> int:
  """Evaluates weights files, or a run's checkpoint, and writes reports.

  Networks are evaluated in float32, as during training: on CPUs bfloat16 is
  slower.

  Args:
    config: the settings.
    workdir: the run's folder. The report of a weights file is in a folder of
      its own below `eval`.
    weights_files: files or ids that `weights.load` reads, or the workdirs of
      runs; if there are several, they are compared in a table, and each may
      hold its own model.
    best: whether to evaluate the checkpoint of each run with the best held-out
      accuracy, not the latest.

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
    network = networks.from_run(config, workdir, best)
    measured = _measure(config, network, source)
    _print(measured, network, _report(config, network, measured, workdir))
    return 0
  rows: list[comparison.Row] = []
  folders = comparison.folders(workdir, weights_files)
  several = len(weights_files) > 1
  for weights_file, folder in zip(weights_files, folders, strict=True):
    network = networks.read(config, weights_file, best=best, any_model=several)
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
  network: networks.Network,
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
  network: networks.Network,
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
    network.run,
    network.step,
  )
  return reports.write(subject, folder)


def _print(
  measured: _Measured, network: networks.Network, page: pathlib.Path | None
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
  network: networks.Network,
  measured: _Measured,
  page: pathlib.Path | None,
) -> comparison.Row:
  count = sum(x.size for x in jax.tree.leaves(network.state.params))
  # The averaged weights, if the run kept them, as in the report.
  summary = numbers.summarize(list(measured.outcomes.values())[-1])
  return comparison.Row(weights_file, summary, count, measured.seconds, page)
