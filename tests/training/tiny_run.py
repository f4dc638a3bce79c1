"""A run of the tiny network, also as a program that tests can kill.

python -m tests.training.tiny_run WORKDIR [--steps=N] [--kill=save:K|batch:K]
    [--batch_seconds=S] [--processes=N --process=I --port=P]
    [--signal=NUMBER:K]
"""

import argparse
import contextlib
import os
import pathlib
import signal
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from nfnets import cli
from nfnets.runtime import distributed
from nfnets.training import (
  checkpoint,
  devices,
  early_stopping,
  loop,
  reporting,
)
from nfnets.training import evaluate as evaluate_lib
from nfnets.training import step as step_lib
from nfnets.training import workdir as workdir_lib
from tests.training import tiny

BATCH = 16
STEPS = 12


class Batches:
  """This process's slice of batch k, for every k; calls `hook(k)` before it."""

  def __init__(
    self, count: int | None = None, hook: Callable[[int], None] = lambda k: None
  ):
    self.count = count
    self.hook = hook
    self.closed = False

  def iterate(self, start: int = 0) -> Iterator[dict[str, np.ndarray]]:
    size = BATCH // jax.process_count()
    own = slice(jax.process_index() * size, (jax.process_index() + 1) * size)
    number = start
    try:
      while self.count is None or number < self.count:
        self.hook(number)
        yield {k: x[own] for k, x in tiny.make_batch(BATCH, number).items()}
        number += 1
    finally:
      self.closed = True


class Program:
  """The compiled programs and the initial state, shared by several runs."""

  def __init__(self, **options: Any):
    model = options.pop('model', None) or tiny.make_model(drop_rate=0.3)
    state, self.train_step = tiny.setup(model=model, **options)
    self.initial = jax.device_get(state)
    self.fold = step_lib.make_fold(lambda params: params)
    self.eval_step = step_lib.make_eval_step(
      model, mean=(0.5,) * 3, std=(0.25,) * 3
    )

  def run(
    self,
    workdir: pathlib.Path,
    *,
    steps: int = STEPS,
    batches: Batches | None = None,
    eval_batches: Batches | None = None,
    every: int = 4,
    log_every: int = 2,
    eval_every: int | None = None,
    stream: Any = None,
    skip_nonfinite: int = 0,
    evaluate: loop.Evaluate | None = None,
    patience: int = 0,
  ) -> loop.Outcome:
    """Trains from the latest checkpoint, as the experiment does."""
    workdir.mkdir(parents=True, exist_ok=True)
    saver = checkpoint.Checkpointer(workdir / 'checkpoints', keep=2)
    with contextlib.closing(saver):
      restored = saver.restore_latest(self.initial)
      start = restored.step if restored else 0
      reporter = reporting.Reporter(
        workdir,
        total_steps=steps,
        images_per_step=BATCH,
        start_step=start,
        stream=stream,
      )
      stopping = early_stopping.EarlyStopping('eval/top1', patience)
      history = early_stopping.read_history(workdir, start)
      stopping.replay(history, start, longer=False)
      with contextlib.closing(reporter):
        return loop.train(
          devices.replicate(restored.state if restored else self.initial),
          train_step=self.train_step,
          batches=batches or Batches(),
          evaluate=evaluate
          or evaluate_lib.Evaluation(
            self.eval_step, eval_batches or Batches(2), self.fold
          ),
          checkpointer=saver,
          reporter=reporter,
          total_steps=steps,
          log_every=log_every,
          eval_every=eval_every or every,
          checkpoint_every=every,
          skip_nonfinite=skip_nonfinite,
          metrics=restored.metrics if restored else None,
          stopping=stopping,
        )


def _die_when_committing(step: int) -> None:
  """Kills this process just before checkpoint `step` is renamed."""
  for module, name in (
    (os, 'rename'),
    (os, 'replace'),
    (pathlib.Path, 'rename'),
  ):
    original = getattr(module, name)

    def renamed(source, *args, original=original, **kwargs):
      if pathlib.Path(source).name.startswith(f'{step}.orbax-checkpoint-tmp'):
        os.kill(os.getpid(), signal.SIGKILL)
      return original(source, *args, **kwargs)

    setattr(module, name, renamed)


def main() -> int:
  parser = argparse.ArgumentParser()
  parser.add_argument('workdir', type=pathlib.Path)
  parser.add_argument('--steps', type=int, default=STEPS)
  parser.add_argument('--kill')
  parser.add_argument('--signal', default=':')
  parser.add_argument('--batch_seconds', type=float, default=0.0)
  parser.add_argument('--processes', type=int)
  parser.add_argument('--process', type=int)
  parser.add_argument('--port')
  options = parser.parse_args()
  kind, when = options.signal.split(':')
  where, _, number = (options.kill or '').partition(':')
  if where == 'save':
    _die_when_committing(int(number))

  def hook(batch: int) -> None:
    time.sleep(options.batch_seconds)
    if where == 'batch' and batch == int(number):
      os.kill(os.getpid(), signal.SIGKILL)
    if when == str(batch):
      os.kill(os.getpid(), int(kind))

  with contextlib.ExitStack() as stack:
    if options.processes:
      address = f'127.0.0.1:{options.port}'
      stack.enter_context(
        distributed.connected(
          address, options.processes, options.process, connect_seconds=300
        )
      )
    if devices.is_primary():
      stack.enter_context(workdir_lib.claim(options.workdir))
    outcome = Program().run(
      options.workdir, steps=options.steps, batches=Batches(hook=hook)
    )
    # As in evaluation and export, in every process.
    checkpoint.read_weights(options.workdir / 'checkpoints')
  print(f'ended at {outcome.step}', flush=True)
  return outcome.exit_status


if __name__ == '__main__':
  cli.run(main)
