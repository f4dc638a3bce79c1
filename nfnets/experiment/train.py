"""Trains a network: one run, from settings to checkpoints and metrics."""

import contextlib
import functools
import hashlib
import json
import pathlib
from collections.abc import Callable, Iterator
from typing import Any

import jax
import ml_collections

from nfnets import errors, files, weights
from nfnets.analysis import macs
from nfnets.data import source as source_lib
from nfnets.experiment import build, fitting, inputs
from nfnets.experiment import config as config_lib
from nfnets.experiment import steps as steps_lib
from nfnets.training import checkpoint, devices, loop, reporting
from nfnets.training import state as state_lib
from nfnets.training import workdir as workdir_lib

_PACKAGE = pathlib.Path(__file__).parents[1]


def train(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> int:
  """Trains from the beginning or from the latest checkpoint.

  Args:
    config: the settings (see `config.py`).
    workdir: folder for checkpoints, metrics and TensorBoard logs.

  Returns:
    The exit status: 0; 143 after SIGTERM, 130 after Ctrl-C, 129 after SIGHUP.

  Raises:
    UserError: an error that the user can fix. Most are found before anything
      slow starts.
  """
  build.check_batch_size(config, jax.device_count())
  source, eval_source = _load_sources(config)
  length = build.lengths(config, len(source))
  schedule = build.make_schedule(config, length)
  steps = steps_lib.make_steps(config, source.num_classes, schedule)
  with contextlib.ExitStack() as stack:
    stack.enter_context(_claimed(config, workdir))
    checkpointer = stack.enter_context(_checkpointer(config, workdir))
    stack.enter_context(
      fitting.explained(
        f'{fitting.less_training(config)}; for an evaluation, reduce'
        ' config.eval.batch_size',
        lambda: _saved(checkpointer),
      )
    )
    create, start, metrics = _start_state(steps, checkpointer)
    memory = fitting.check_training(steps, len(eval_source))
    reporter = stack.enter_context(_reporter(config, workdir, length, start))
    reporter.message(_summary(steps, memory, start))
    outcome = loop.train(
      devices.replicate(create()),
      train_step=steps.train,
      batches=inputs.train_batches(
        config, source, steps.model, steps.images_per_example
      ),
      evaluate=build.make_evaluation(
        config, steps.model, steps.evaluation, eval_source
      ),
      checkpointer=checkpointer,
      reporter=reporter,
      total_steps=length.total,
      log_every=config.log.every_steps,
      eval_every=length.eval_every,
      checkpoint_every=length.checkpoint_every,
      metrics=metrics,
    )
    reporter.message(_ending(outcome, workdir))
  return outcome.exit_status


@contextlib.contextmanager
def _claimed(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> Iterator[None]:
  """Locks the workdir for this run, in process 0; all processes wait for it.

  Raises:
    UserError: another run uses the workdir, or it holds a run with other
      settings, or the processes have different code or settings.
  """
  settings = config_lib.flatten(config)
  devices.check_same(_digest_code(), 'the code (nfnets/)')
  devices.check_same(json.dumps(settings), 'the config')
  with contextlib.ExitStack() as stack:
    if devices.is_primary():
      stack.enter_context(workdir_lib.claim(workdir))
      if _has_begun(workdir):
        _check_config_file(workdir / workdir_lib.CONFIG, settings)
      _write_config_file(workdir / workdir_lib.CONFIG, settings)
    devices.barrier('workdir')
    yield


def _digest_code(folder: pathlib.Path = _PACKAGE) -> str:
  """Returns a digest of the names and contents of a package's source files."""
  digest = hashlib.sha256()
  for path in sorted(folder.rglob('*.py')):
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    digest.update(f'{path.relative_to(folder).as_posix()} {content}\n'.encode())
  return digest.hexdigest()


def _checkpointer(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> contextlib.closing:
  return contextlib.closing(
    checkpoint.Checkpointer(
      workdir / workdir_lib.CHECKPOINTS,
      keep=config.checkpoint.keep,
      config=config_lib.flatten(config),
    )
  )


def _reporter(
  config: ml_collections.ConfigDict,
  workdir: pathlib.Path,
  length: build.Lengths,
  start: int,
) -> contextlib.closing:
  return contextlib.closing(
    reporting.Reporter(
      workdir,
      total_steps=length.total,
      images_per_step=config.train.batch_size,
      start_step=start,
    )
  )


def _load_sources(
  config: ml_collections.ConfigDict,
) -> tuple[source_lib.Source, source_lib.Source]:
  """Opens the splits to train and to evaluate on.

  Raises:
    UserError: their classes differ, or too many images are unreadable.
  """
  source = inputs.load_source(config, 'train')
  eval_source = inputs.load_source(config, 'eval')
  if source.class_names != eval_source.class_names:
    differ = sorted(set(source.class_names) ^ set(eval_source.class_names))
    raise errors.UserError(
      f'{config.dataset}: {source.split} has {source.num_classes} classes and'
      f' {eval_source.split} has {eval_source.num_classes}; they differ in'
      f' {", ".join(differ[:5]) or "their order"}'
    )
  for split in (source, eval_source):
    inputs.check_readable(config, split)
  return source, eval_source


def _has_begun(workdir: pathlib.Path) -> bool:
  """Returns whether the workdir has results; a failed start leaves none."""
  metrics = workdir / workdir_lib.METRICS
  checkpoints = workdir / workdir_lib.CHECKPOINTS
  return metrics.exists() or any(checkpoints.glob('*'))


def _check_config_file(path: pathlib.Path, settings: dict[str, Any]) -> None:
  """Checks that the workdir's run has the same settings.

  Raises:
    UserError: it has others, or its settings cannot be read.
  """
  if not path.exists():
    return
  try:
    old = json.loads(path.read_text())
  except ValueError as error:
    raise errors.UserError(
      f'{path} is not valid JSON ({error}): restore it, or choose another'
      ' --workdir'
    ) from error
  differences = config_lib.differences(old, settings)
  if differences:
    raise errors.UserError(
      f'workdir {path.parent} contains a run with other settings'
      f' ({"; ".join(differences)}): choose another --workdir, or use the'
      " run's settings"
    )


def _write_config_file(path: pathlib.Path, settings: dict[str, Any]) -> None:
  text = json.dumps(settings, indent=2, sort_keys=True) + '\n'
  try:
    with files.replacing(path) as temporary:
      temporary.write_text(text)
  except OSError as error:
    raise errors.UserError(
      f'{path} cannot be written ({error.strerror}): free some space, or choose'
      ' another --workdir'
    ) from error


def _start_state(
  steps: steps_lib.Steps, checkpointer: checkpoint.Checkpointer
) -> tuple[Callable[[], state_lib.TrainState], int, dict[str, float]]:
  """Reads what to start from; nothing is on the devices yet.

  Returns:
    What creates the state, its step, and its metrics.
  """
  restored = checkpointer.restore_latest(steps_lib.state_shapes(steps))
  if restored is not None:
    return lambda: restored.state, restored.step, restored.metrics
  config = steps.config
  if not config.init_from:
    return functools.partial(steps_lib.create_state, steps), 0, {}
  params, net_state = weights.load_for(
    config.init_from, steps.model, reset_head=True
  )
  create = functools.partial(
    state_lib.from_params,
    params,
    net_state,
    steps.optimizer,
    ema=bool(config.train.ema_decay),
  )
  return create, 0, {}


def _saved(checkpointer: checkpoint.Checkpointer) -> str:
  step = checkpointer.latest_step
  return 'no checkpoint yet' if step is None else f'step {step} is saved'


def _summary(steps: steps_lib.Steps, memory: str, start: int) -> str:
  """Describes model, devices, memory, optimizer, and the step if resumed."""
  config, model = steps.config, steps.model
  size = inputs.image_size(config, model)
  params = steps_lib.state_shapes(steps).params
  summary = reporting.start_summary(
    model=config.model.name,
    parameters=sum(x.size for x in jax.tree.leaves(params)),
    gmacs=macs.model_macs(model, size) / 1e9,
    image_size=size,
    memory=memory,
    groups=build.describe_groups(config, params),
  )
  return f'{summary}\nresuming from step {start}' if start else summary


def _ending(outcome: loop.Outcome, workdir: pathlib.Path) -> str:
  """Describes how the run ended, with the paths of its files."""
  lines = [f'stopped at step {outcome.step}: rerun the command to resume']
  if not outcome.exit_status:
    measured = {
      'top1': 'held-out accuracy',
      'ema_top1': 'held-out accuracy of the averaged weights',
    }
    lines = [
      f'{text}: {outcome.metrics[f"eval/{name}"]:.2%}'
      for name, text in measured.items()
      if f'eval/{name}' in outcome.metrics
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
