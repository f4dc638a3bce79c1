"""Reads the network of a training run from its workdir."""

import logging
import math
import os
import pathlib
from collections.abc import Mapping
from typing import Any

from nfnets import errors, models, weights
from nfnets.training import checkpoint, checkpoint_arrays, checkpoint_files
from nfnets.training import dataset as dataset_lib
from nfnets.training import manifest as manifest_lib
from nfnets.training import workdir as workdir_lib
from nfnets.weights import class_names, snapshots, tree

_log = logging.getLogger(__name__)

# The settings of a run that are read besides those of its model.
_KINDS = {
  'model.name': str,
  'data.eval_preset': str,
  'data.image_size': int,
  'data.eval_size': int,
}

# A run's settings by dotted name, read from JSON: values of any type.
_Settings = Mapping[str, Any]


def is_workdir(path: pathlib.Path) -> bool:
  """Returns whether a path is a folder, and not one of the Hub's."""
  return os.path.isdir(path) and snapshots.read(path) is None


def not_a_workdir(path: pathlib.Path) -> errors.UserError:
  """Returns the error about --best for another source than a run."""
  return errors.UserError(
    f'--best: {path} is not the workdir of a training run; omit it'
  )


def load(
  workdir: pathlib.Path,
  ema: bool = True,
  step: int | None = None,
) -> weights.Loaded:
  """Loads the network of a training run, without disturbing the run.

  Args:
    workdir: the workdir of `nfnets.experiment`.
    ema: whether to use the moving average of the weights, if the run kept one.
    step: the step of the checkpoint, such as `best_step`; None selects the
      latest.

  Returns:
    The network with its class names and evaluation preset.

  Raises:
    UserError: the checkpoint does not exist or cannot be read.
  """
  checkpoints = workdir / workdir_lib.CHECKPOINTS
  saved = checkpoint.read_weights(checkpoints, step, ema=ema)
  flat = tree.flatten(saved.params)
  num_classes = tree.num_classes(flat)
  settings = _checked(saved.config, workdir)
  name = settings['model.name']
  try:
    model = models.create_model(name, num_classes, **_model_options(settings))
  except errors.UserError as error:
    raise _undescribed(workdir, str(error)) from error
  wanted = tree.expected(model.config).params
  tree.check(flat, wanted, str(workdir), name, 'nfnets')
  dataset = saved.dataset
  if dataset is None and num_classes != len(class_names.imagenet()):
    _log.warning(
      '%s: its checkpoints contain no class names, as an older version wrote'
      ' them: the classes are called %r, ...',
      workdir,
      class_names.resolve(num_classes, ())[0],
    )
  return weights.Loaded(
    model,
    saved.params,
    saved.state,
    class_names.resolve(
      num_classes, tuple(dataset['class_names']) if dataset else ()
    ),
    settings['data.eval_preset'],
    _images(dataset),
  )


def best_step(workdir: pathlib.Path) -> int:
  """Returns the step of the checkpoint with the best held-out accuracy.

  Of several, the latest. Damaged checkpoints are ignored.

  Args:
    workdir: the workdir of `nfnets.experiment`.

  Raises:
    UserError: no intact checkpoint contains the accuracy of an evaluation.
  """
  checkpoints = workdir / workdir_lib.CHECKPOINTS
  scores: dict[int, float] = {}
  for path in checkpoint_files.step_folders(checkpoints):
    try:
      manifest = checkpoint_files.read_manifest(
        path, checkpoint_arrays.check_metadata
      )
    except manifest_lib.DamagedError as error:
      text = errors.printable(f'{path}: {error}')
      _log.warning('skipped damaged checkpoint %s', text)
      continue
    scores[manifest['step']] = checkpoint_files.score(manifest['metrics'])
  best = max(scores.values(), default=-math.inf)
  if best == -math.inf:
    raise errors.UserError(
      f'{workdir}: no checkpoint contains the accuracy of an evaluation; omit'
      ' --best to use the latest checkpoint'
    )
  return max(step for step, score in scores.items() if score == best)


def _images(dataset: dataset_lib.Dataset | None) -> dict[str, int]:
  """Returns the numbers of images in the form that `weights.save` takes."""
  if dataset is None:
    return {}
  return {'train': dataset['train_images'], 'eval': dataset['eval_images']}


def _checked(settings: _Settings | None, workdir: pathlib.Path) -> _Settings:
  """Returns a run's settings if the network can be built from them.

  Raises:
    UserError: some are missing or of another type.
  """
  found = settings or {}
  for key, kind in _KINDS.items():
    if not isinstance(found.get(key), kind):
      reason = f'{key} is {found.get(key)!r:.80}'
      raise _undescribed(workdir, reason)
  return found


def _undescribed(workdir: pathlib.Path, reason: str) -> errors.UserError:
  return errors.UserError(
    f'{workdir}: its checkpoints do not describe their network ({reason}); pass'
    ' a workdir of python -m nfnets.experiment'
  )


def _model_options(settings: _Settings) -> tree.Options:
  """Returns the options of `create_model` in a run's settings."""
  options = {
    key.removeprefix('model.'): value
    for key, value in settings.items()
    if key.startswith('model.') and key != 'model.name' and value is not None
  }
  # As in `experiment.inputs`.
  size = settings['data.image_size']
  sizes = {'train_size': size, 'test_size': settings['data.eval_size'] or size}
  options |= {option: value for option, value in sizes.items() if value}
  # Rematerialization only matters in training.
  return {**options, 'remat': False}
