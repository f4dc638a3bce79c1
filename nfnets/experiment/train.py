"""One run, from settings to a trained or an evaluated network."""

import contextlib
import json
import pathlib
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from nfnets import errors, files, models, weights
from nfnets.analysis import macs
from nfnets.data import source as source_lib
from nfnets.experiment import build
from nfnets.experiment import config as config_lib
from nfnets.optim import optimizer as optimizer_lib
from nfnets.training import checkpoint, devices, loop, reporting
from nfnets.training import evaluate as evaluate_lib
from nfnets.training import state as state_lib
from nfnets.training import step as step_lib
from nfnets.training import workdir as workdir_lib

_CONFIG_FILE = 'config.json'
CHECKPOINTS = 'checkpoints'


def train(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> int:
  """Trains, from the beginning or from the newest checkpoint.

  Args:
    config: the settings (see `nfnets/config.py`).
    workdir: of checkpoints, metrics and TensorBoard files.

  Returns:
    The exit status: 0, or 143 after SIGTERM and 130 after Ctrl-C.

  Raises:
    UserError: for whatever the user can mend, before anything slow starts.
  """
  build.check_batch_size(config)
  source, eval_source = _load_sources(config)
  length = build.lengths(config, len(source))
  model = build.make_model(config, source.num_classes)
  schedule = build.make_schedule(config, length)
  optimizer = build.make_optimizer(config, schedule)
  preprocess = build.make_preprocess(config, model)
  with contextlib.ExitStack() as stack:
    stack.enter_context(_claimed(config, workdir))
    checkpointer = stack.enter_context(_checkpointer(config, workdir))
    state, start, metrics = _start_state(config, model, optimizer, checkpointer)
    reporter = stack.enter_context(_reporter(config, workdir, length, start))
    reporter.message(_summary(config, model, start))
    outcome = loop.train(
      state,
      train_step=step_lib.make_train_step(
        build.make_gradient(config, model, preprocess),
        optimizer,
        schedule=schedule,
        ema_decay=config.train.ema_decay or None,
      ),
      batches=build.train_batches(
        config, source, model, preprocess.images_per_example
      ),
      evaluate=_make_evaluation(config, model, eval_source),
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
  """The workdir is this run's: of all its processes and of no other run."""
  settings = config_lib.flatten(config)
  devices.check_same(json.dumps(settings), 'the config')
  with contextlib.ExitStack() as stack:
    if devices.is_primary():
      stack.enter_context(workdir_lib.claim(workdir))
      if _has_begun(workdir):
        _check_config_file(workdir / _CONFIG_FILE, settings)
      _write_config_file(workdir / _CONFIG_FILE, settings)
    devices.barrier('workdir')
    yield


def _checkpointer(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> contextlib.closing:
  return contextlib.closing(
    checkpoint.Checkpointer(
      workdir / CHECKPOINTS,
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
  """The sources to train and to evaluate on, of the same classes."""
  source = build.load_source(config, 'train')
  eval_source = build.load_source(config, 'eval')
  if source.class_names != eval_source.class_names:
    differ = sorted(set(source.class_names) ^ set(eval_source.class_names))
    raise errors.UserError(
      f'{config.dataset}: {source.split} has {source.num_classes} classes and'
      f' {eval_source.split} has {eval_source.num_classes}; not in both:'
      f' {", ".join(differ[:5]) or "their order"}'
    )
  return source, eval_source


def _has_begun(workdir: pathlib.Path) -> bool:
  """False where nothing can be lost: the first start ended in an error."""
  metrics = workdir / workdir_lib.METRICS
  return metrics.exists() or any((workdir / CHECKPOINTS).glob('*'))


def _check_config_file(path: pathlib.Path, settings: dict[str, Any]) -> None:
  """Refuses to mix two runs.

  Raises:
    UserError: the workdir holds a run with other settings.
  """
  if path.exists():
    try:
      old = json.loads(path.read_text())
    except ValueError as error:
      raise errors.UserError(
        f'{path} is not readable as JSON ({error}): restore it, or choose'
        ' another --workdir'
      ) from error
    differences = config_lib.differences(old, settings)
    if differences:
      raise errors.UserError(
        f'workdir {path.parent} holds a run with other settings'
        f' ({"; ".join(differences)}): choose another --workdir, or give the'
        ' settings of that run'
      )


def _write_config_file(path: pathlib.Path, settings: dict[str, Any]) -> None:
  with files.replacing(path) as temporary:
    temporary.write_text(json.dumps(settings, indent=2, sort_keys=True) + '\n')


def _start_state(
  config: ml_collections.ConfigDict,
  model: models.Model,
  optimizer: Any,
  checkpointer: checkpoint.Checkpointer,
) -> tuple[state_lib.TrainState, int, dict[str, float]]:
  """The replicated state to start from, its step and its metrics."""
  size = build.image_size(config, model)
  ema = bool(config.train.ema_decay)

  def create() -> state_lib.TrainState:
    key = jax.random.key(config.seed)
    return state_lib.create_train_state(model, optimizer, key, size, ema=ema)

  restored = checkpointer.restore_latest(jax.eval_shape(create))
  if restored is not None:
    state = devices.replicate(restored.state)
    return state, restored.step, restored.metrics
  if not config.init_from:
    return devices.replicate(create()), 0, {}
  params, net_state = weights.load_for(config.init_from, model, reset_head=True)
  state = state_lib.from_params(params, net_state, optimizer, ema=ema)
  return devices.replicate(state), 0, {}


def _make_evaluation(
  config: ml_collections.ConfigDict,
  model: models.Model,
  source: source_lib.Source,
) -> loop.Evaluate:
  folded, fold = models.folded(model)
  return evaluate_lib.make_evaluation(
    step_lib.make_eval_step(
      folded, mean=model.config.mean, std=model.config.std
    ),
    build.eval_batches(config, source, model),
    step_lib.make_fold(fold),
  )


def _summary(
  config: ml_collections.ConfigDict, model: models.Model, start: int
) -> str:
  """What is about to be trained, on what, how, and from which step."""
  size = build.image_size(config, model)
  images = jnp.zeros((1, size, size, 3))
  params, _ = jax.eval_shape(model.init, jax.random.key(0), images)
  summary = reporting.start_summary(
    model=config.model.name,
    parameters=sum(x.size for x in jax.tree.leaves(params)),
    gmacs=macs.model_macs(model, size) / 1e9,
    image_size=size,
    groups=optimizer_lib.describe_groups(
      params, **build.optimizer_options(config)
    ),
  )
  return f'{summary}\ngoing on from step {start}' if start else summary


def _ending(outcome: loop.Outcome, workdir: pathlib.Path) -> str:
  """How the run ended and where everything lies."""
  lines = [f'stopped at step {outcome.step}: the same command goes on']
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
  return '\n'.join(
    [
      *lines,
      f'checkpoint:  {workdir / CHECKPOINTS / str(outcome.step)}',
      f'metrics:     {workdir / "metrics.jsonl"}',
      f'TensorBoard: {workdir / "tensorboard"}',
    ]
  )
