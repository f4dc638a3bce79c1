"""Measures a network: --mode=eval."""

import contextlib
import pathlib
from typing import Any, NamedTuple

import ml_collections

from nfnets import models, weights
from nfnets.experiment import build
from nfnets.training import checkpoint, devices
from nfnets.training import evaluate as evaluate_lib
from nfnets.training import step as step_lib


class _Network(NamedTuple):
  """What is measured, and its name in the report."""

  name: str
  params: Any
  state: Any


def evaluate(
  config: ml_collections.ConfigDict,
  checkpoints: pathlib.Path,
  weights_file: str | None,
) -> int:
  """Prints the accuracy of a weights file, or of a run's newest checkpoint.

  Args:
    config: the settings.
    checkpoints: of a run; read only where no weights file is given.
    weights_file: whatever `weights.load` reads, or None.

  Returns:
    The exit status.

  Raises:
    UserError: nothing to evaluate, or it does not fit model or data set.
  """
  source = build.load_source(config, 'eval')
  model = build.make_model(config, source.num_classes)
  batches = build.eval_batches(config, source, model)
  networks = (
    [_Network(weights_file, *weights.load_for(weights_file, model))]
    if weights_file
    else _from_checkpoint(config, checkpoints)
  )
  folded, fold = models.folded(model)
  fold_replicated = step_lib.make_fold(fold)
  eval_step = step_lib.make_eval_step(
    folded, mean=model.config.mean, std=model.config.std
  )
  for network in networks:
    params, state = devices.replicate((network.params, network.state))
    params = fold_replicated(params)
    with contextlib.closing(batches.iterate()) as stream:
      result = evaluate_lib.evaluate_all(
        eval_step, {'': (params, state)}, stream
      )
    if devices.is_primary():
      print(
        f'{network.name}: top-1 {result["top1"]:.2%},'
        f' top-5 {result["top5"]:.2%}, loss {result["loss"]:.4f}'
        f' on {result["count"]} images of {source.name} ({source.split})'
      )
  return 0


def _from_checkpoint(
  config: ml_collections.ConfigDict, checkpoints: pathlib.Path
) -> list[_Network]:
  """The weights, and their average where the run keeps one."""
  kinds = {'weights': False}
  if config.train.ema_decay:
    kinds['averaged weights'] = True
  read = {
    name: checkpoint.read_weights(checkpoints, ema=ema)
    for name, ema in kinds.items()
  }
  return [
    _Network(f'{name} of step {w.step}', w.params, w.state)
    for name, w in read.items()
  ]
