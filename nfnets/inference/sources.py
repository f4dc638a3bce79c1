"""From any source of weights to a network."""

import os
import pathlib

from nfnets import errors, files, weights
from nfnets.inference import network, runs


def load(
  source: str | os.PathLike,
  model: str | None = None,
  *,
  best: bool = False,
) -> network.Network:
  """Loads a trained network that knows its classes and preprocessing.

    network = nfnets.load('runs/flowers')
    network.predict(['tulip.jpg', 'rose.jpg']).classes

  Args:
    source: a weights file (see `weights.load`), a Hugging Face id such as
      'timm/dm_nfnet_f0.dm_in1k', or the workdir of a training run.
    model: the model's name; needed only if a file does not specify it.
    best: use the checkpoint with the best held-out accuracy, not the latest.

  Raises:
    UserError: the source cannot be read, or an argument does not apply to it.
  """
  return network.Network(
    load_weights(files.user_path(source, 'source'), model, best)
  )


def load_weights(
  source: pathlib.Path,
  model: str | None = None,
  best: bool = False,
  *,
  step: int | None = None,
  ema: bool = True,
  refit: bool = False,
) -> weights.Loaded:
  """Loads weights from any source.

  Args:
    source: see `load`.
    model: see `load`.
    best: see `load`.
    step: the step of a run's checkpoint; None selects the latest.
    ema: use the moving average of a run's weights, if the run kept one.
    refit: see `weights.load`.

  Raises:
    UserError: see `load`.
  """
  if not runs.is_workdir(source):
    if best:
      raise runs.not_a_workdir(source)
    return weights.load_model(source, model, refit=refit)
  for flag, value in (('--model', model), ('--refit_from_timm', refit)):
    if value:
      raise errors.UserError(
        f'{flag}: {source} is the workdir of a training run, which specifies'
        ' its model; omit it'
      )
  return runs.load(source, ema, runs.best_step(source) if best else step)
