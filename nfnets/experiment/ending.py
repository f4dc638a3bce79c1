"""What a run measures and prints after its last step."""

import os
import pathlib
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence

import ml_collections

from nfnets import files, models
from nfnets.data import sources
from nfnets.experiment import inputs, splits
from nfnets.experiment import steps as steps_lib
from nfnets.training import evaluate as evaluate_lib
from nfnets.training import loop, reporting
from nfnets.training import step as step_lib
from nfnets.training import workdir as workdir_lib

_PACKAGE_PARENT = pathlib.Path(__file__).parents[2]


def measure_test(
  steps: steps_lib.Steps,
  data: splits.Splits,
  outcome: loop.Outcome,
  reporter: reporting.Reporter,
  history: Sequence[Mapping[str, float]],
) -> dict[str, float]:
  """Evaluates a finished run on the test split and reports the result.

  Args:
    steps: the programs.
    data: the splits.
    outcome: how training ended.
    reporter: where to write the metrics.
    history: from `early_stopping.read_history`. If the run had finished before,
      this has the result.

  Returns:
    'test/top1', 'test/ema_top1' and so on; {} if there is no test split or the
    run is not finished.
  """
  if data.test is None or outcome.exit_status:
    return {}
  for line in history:
    if line['step'] == outcome.step and 'test/top1' in line:
      return {name: x for name, x in line.items() if name != 'step'}
  evaluation = evaluate_lib.Evaluation(
    steps.evaluation,
    inputs.eval_batches(steps.config, data.test, steps.model, data.held_out),
    step_lib.make_fold(models.folded(steps.model)[1]),
  )
  with reporter.paused():
    metrics = evaluation(outcome.state, lambda: False)
  metrics = {k.replace('eval/', 'test/'): x for k, x in metrics.items()}
  reporter.write(outcome.step, metrics)
  return metrics


def describe(
  outcome: loop.Outcome, workdir: pathlib.Path, test: Mapping[str, float]
) -> str:
  """Describes how a run ended, with the paths of its files.

  Args:
    outcome: how training ended.
    workdir: the run's folder.
    test: from `measure_test`; {} without a test split.
  """
  lines = [f'stopped at step {outcome.step}: rerun the command to resume']
  if not outcome.exit_status:
    metrics = {**outcome.metrics, **test}
    lines = [
      f'{text}{average}: {metrics[f"{split}/{prefix}top1"]:.2%}'
      for split, text in (
        ('eval', 'held-out accuracy'),
        ('test', 'test accuracy'),
      )
      for prefix, average in (('', ''), ('ema_', ' of the averaged weights'))
      if f'{split}/{prefix}top1' in metrics
    ]
  checkpoints = workdir / workdir_lib.CHECKPOINTS
  return '\n'.join(
    [
      *lines,
      f'checkpoint:  {checkpoints / str(outcome.step)}',
      f'metrics:     {workdir / workdir_lib.METRICS}',
      f'TensorBoard: {workdir / workdir_lib.TENSORBOARD}',
    ]
  )


def next_commands(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> str:
  """Returns the commands that use a finished run, to copy into a shell.

  Args:
    config: the settings.
    workdir: the run's folder.
  """
  run = shlex.quote(str(workdir))
  pictures = 'PICTURES'
  if config.dataset.startswith(sources.FOLDER_PREFIX):
    folder = config.dataset.removeprefix(sources.FOLDER_PREFIX)
    pictures = shlex.quote(str(files.user_path(folder, 'dataset')))
  weights = shlex.quote(f'{workdir.absolute().name}.safetensors')
  commands = [
    f'predict --weights={run} {pictures}',
    f'experiment --workdir={run} --mode=eval'
    + (' --config.data.eval_split=test' if config.data.held_out else ''),
    f'convert {run} {weights} --to=nfnets',
  ]
  return '\n'.join(
    ['next:', *(f'  {_python()} -m nfnets.{command}' for command in commands)]
  )


def _python() -> str:
  """Returns how a shell in this folder starts the same Python and package."""
  found = shutil.which('python')
  same = found and os.path.dirname(found) == os.path.dirname(sys.executable)
  python = 'python' if same else shlex.quote(sys.executable)
  if pathlib.Path.cwd() == _PACKAGE_PARENT:
    return python
  if str(_PACKAGE_PARENT) in os.environ.get('PYTHONPATH', '').split(os.pathsep):
    return f'PYTHONPATH={shlex.quote(str(_PACKAGE_PARENT))} {python}'
  return python
