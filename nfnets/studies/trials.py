"""Trains one run of a study, as `python -m nfnets.experiment` does."""

import contextlib
import math
import pathlib
import statistics

import jax

from nfnets import errors, files, weights
from nfnets.experiment import build, checks
from nfnets.experiment import train as train_lib
from nfnets.inference import runs
from nfnets.studies import results, runner
from nfnets.training import loop
from nfnets.training import workdir as workdir_lib
from nfnets.weights import tree

LOG = 'output.txt'
"""The name of the file with the output of a run, in its folder."""
_WEIGHTS = 'weights.safetensors'


def check(run: results.Run) -> None:
  """Checks what depends on the devices; see `build.check_batch_size`.

  Raises:
    UserError: devices and micro-batches do not divide the batch.
  """
  build.check_batch_size(checks.from_changes(run.settings), jax.device_count())


def train(
  run: results.Run, folder: pathlib.Path, start: pathlib.Path | None
) -> dict[str, float]:
  """Trains or resumes a run.

  Args:
    run: the run.
    folder: its workdir.
    start: the workdir of a run with `keep`, whose weights it starts from; None:
      random ones.

  Returns:
    What `read_numbers` returns.

  Raises:
    Diverged: a loss or gradient was not finite.
    Interrupted: a signal ended the run.
    UserError: it failed, or the folder cannot be written.
  """
  settings = dict(run.settings)
  if start is not None:
    settings['init_from'] = str(start / _WEIGHTS)
  config = checks.from_changes(settings)
  log = folder / LOG
  try:
    folder.mkdir(parents=True, exist_ok=True)
    file = open(log, 'a', encoding='utf-8', errors='backslashreplace')
  except OSError as error:
    raise errors.UserError(
      f'{folder} cannot be written ({error.strerror}): choose another --out'
    ) from error
  with (
    file,
    contextlib.redirect_stdout(file),
    contextlib.redirect_stderr(file),
  ):
    try:
      status = train_lib.train(config, folder)
    except loop.DivergedError as error:
      print(f'error: {error}')
      raise runner.Diverged(_last_step(folder)) from error
    except errors.UserError as error:
      print(f'error: {error}')
      raise errors.UserError(f'{error} (the output is in {log})') from error
  if status:
    raise runner.Interrupted(status)
  if run.keep:
    _save_weights(folder)
  return read_numbers(folder / workdir_lib.METRICS, config.train.batch_size)


def _save_weights(folder: pathlib.Path) -> None:
  """Saves the latest weights of a run, without their averages."""
  network = runs.load(folder, ema=False)
  weights.save(
    folder / _WEIGHTS,
    network.params,
    network.state,
    network.model.config.name,
    **tree.options(network.model.config),
  )


def read_numbers(path: pathlib.Path, batch_size: int) -> dict[str, float]:
  """Reads the numbers of a finished run from its metrics.jsonl.

  Args:
    path: the file.
    batch_size: images per step.

  Returns:
    'step', its last step; 'top1' and 'loss', held-out accuracy in [0, 1] and
    loss after it; 'ema_top1', the accuracy of the averaged weights, if there
    are any; 'step_time', the median time per step in seconds, if
    the run has more than one; 'clipped', the
    mean fraction of units that AGC clipped, if it is on. What is not finite is
    NaN.

  Raises:
    UserError: the file cannot be read, or lacks results.
  """
  try:
    lines = [files.parse_json(x) for x in path.read_bytes().splitlines()]
    last = [line for line in lines if 'eval/top1' in line][-1]
    rates = [x['images_per_second'] for x in lines if 'images_per_second' in x]
    found = {
      'step': float(last['step']),
      'top1': _number(last['eval/top1']),
      'loss': _number(last['eval/loss']),
    }
    if rates:
      # The first interval includes compilation.
      found['step_time'] = batch_size / statistics.median(rates[1:] or rates)
    if 'eval/ema_top1' in last:
      found['ema_top1'] = _number(last['eval/ema_top1'])
    clipped = [
      x['train/agc_clipped'] for x in lines if 'train/agc_clipped' in x
    ]
    if clipped:
      found['clipped'] = statistics.fmean(clipped)
    return found
  except (
    OSError, ValueError, TypeError, LookupError, AttributeError,
    ArithmeticError,
  ) as error:  # fmt: skip
    reason = ' '.join(str(error).split())[:80]
    raise errors.UserError(
      f'{path}: has no results of a finished run ({type(error).__name__}:'
      f' {reason}): remove {path.parent} to run it again'
    ) from error


def _number(value: object) -> float:
  """Returns a metric; JSON has no NaN and infinity, so those are null."""
  return math.nan if value is None else float(value)  # type: ignore[arg-type]


def _last_step(folder: pathlib.Path) -> dict[str, float]:
  """Returns the step in the last line of a run's metrics, if any."""
  try:
    lines = (folder / workdir_lib.METRICS).read_bytes().splitlines()
    return {'step': float(files.parse_json(lines[-1])['step'])}
  except (OSError, ValueError, TypeError, LookupError):
    return {}
