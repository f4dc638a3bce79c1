"""Whether settings fit the run in a workdir, to continue or to evaluate it."""

import contextlib
import hashlib
import json
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import ml_collections

from nfnets import errors, files, models
from nfnets.experiment import checks, inputs
from nfnets.experiment import config as config_lib
from nfnets.training import checkpoint_files, devices, manifest
from nfnets.training import workdir as workdir_lib

_PACKAGE = pathlib.Path(__file__).parents[1]
# Settings of the model that do not matter to trained weights in evaluation.
_UNUSED = frozenset(
  f'model.{key}'
  for key in ('drop_rate', 'stochdepth_rate', 'skip_gain_init', 'remat')
)


@contextlib.contextmanager
def claimed(
  config: ml_collections.ConfigDict, workdir: pathlib.Path, examples: int
) -> Iterator[int]:
  """Locks the workdir for this run, in process 0; all processes wait for it.

  Args:
    config: the settings.
    workdir: the workdir.
    examples: number of training images.

  Yields:
    The length in steps of the run that the workdir holds, or 0.

  Raises:
    UserError: another run uses the workdir, or it holds a run with other
      settings, or the processes have different code or settings.
  """
  settings = config_lib.flatten(config)
  devices.check_same(_digest_code(), 'the code (nfnets/)')
  devices.check_same(json.dumps(settings), 'the config')
  before = 0
  with contextlib.ExitStack() as stack:
    if devices.is_primary():
      stack.enter_context(workdir_lib.claim(workdir))
      if _has_begun(workdir):
        before = _check_resumable(workdir, config, examples)
    devices.barrier('workdir')
    yield before


def _digest_code(folder: pathlib.Path = _PACKAGE) -> str:
  """Returns a digest of the names and contents of a package's source files."""
  digest = hashlib.sha256()
  for path in sorted(folder.rglob('*.py')):
    content = hashlib.sha256(path.read_bytes()).hexdigest()
    digest.update(f'{path.relative_to(folder).as_posix()} {content}\n'.encode())
  return digest.hexdigest()


def _has_begun(workdir: pathlib.Path) -> bool:
  """Returns whether the workdir has results; a failed start leaves none."""
  metrics = workdir / workdir_lib.METRICS
  checkpoints = workdir / workdir_lib.CHECKPOINTS
  return metrics.exists() or any(checkpoints.glob('*'))


def _check_resumable(
  workdir: pathlib.Path, config: ml_collections.ConfigDict, examples: int
) -> int:
  """Checks that the workdir's run has the same settings, or a shorter length.

  Returns:
    The length of that run in steps; 0 if it is unknown.

  Raises:
    UserError: it has others or a greater length, or its settings cannot be
      read.
  """
  saved = workdir_lib.read_settings(workdir)
  if saved is None:
    return 0
  new = config_lib.flatten(config)
  old = config_lib.flatten(config_lib.base()) | saved
  same_length = {name: new[name] for name in config_lib.LENGTH}
  differences = config_lib.differences(old | same_length, new)
  if not differences:
    before, now = (total_steps(x, examples) for x in (old, new))
    if now >= before:
      return before
    differences = [
      *config_lib.differences(old, new),
      f'{before} steps -> {now}, and a run cannot become shorter',
    ]
  raise errors.UserError(
    f'workdir {workdir} contains a run with other settings'
    f' ({"; ".join(differences)}): choose another --workdir, or use the'
    " run's settings"
  )


def total_steps(values: Mapping[str, Any], examples: int) -> int:
  """Returns the length of a run in steps.

  Args:
    values: its flattened settings; what is missing has its default.
    examples: number of training images.
  """
  defaults = config_lib.flatten(config_lib.base())
  checked = checks.check_values(defaults | dict(values))
  config = config_lib.nested(checked)
  return config_lib.steps(config.train, '', examples, config.train.batch_size)


def save_settings(
  config: ml_collections.ConfigDict, workdir: pathlib.Path
) -> None:
  """Saves the settings in the workdir, in process 0.

  To be called just before the first step: a start that fails before leaves the
  run as it was.

  Raises:
    UserError: they cannot be written.
  """
  if not devices.is_primary():
    return
  path = workdir / workdir_lib.CONFIG
  settings = config_lib.flatten(config)
  text = json.dumps(settings, indent=2, sort_keys=True) + '\n'
  try:
    with files.replacing(path) as temporary:
      temporary.write_text(text)
  except OSError as error:
    raise errors.UserError(
      f'{path} cannot be written ({error.strerror}): free some space, or choose'
      ' another --workdir'
    ) from error


def describe_longer(before: int, total: int, start: int) -> str:
  """Explains what it means that a run has become longer.

  Args:
    before: the length that it had, steps.
    total: the length that it has now, steps.
    start: the step that it resumes from.
  """
  return (
    f'this run had {before} steps and now has {total}: from step {start} on the'
    f' learning rate follows the schedule of {total} steps, so the result'
    ' differs from that of a run which had this length from the start'
  )


def check_network(
  config: ml_collections.ConfigDict,
  model: models.Model,
  saved: checkpoint_files.Weights,
  workdir: pathlib.Path,
) -> None:
  """Checks that the weights of a checkpoint are those of a model.

  Args:
    config: the settings.
    model: the model built from them.
    saved: the weights.
    workdir: where they are from.

  Raises:
    UserError: they are not; with the settings or the first array that differ.
  """
  remedy = (
    'omit --config to evaluate with the settings of the run, or choose the'
    ' --workdir of another'
  )
  ours = config_lib.flatten(config)
  theirs = config_lib.flatten(config_lib.base()) | (saved.config or ours)
  wrong = [
    f'{name}: {theirs[name]!r:.80} -> {value!r}'
    for name, value in ours.items()
    if name.startswith('model.') and name not in _UNUSED
    if theirs[name] != value
  ]
  if wrong:
    raise errors.UserError(
      f'{workdir} has a run with other settings ({"; ".join(wrong)}): {remedy}'
    )
  size = inputs.image_size(config, model)
  images = jax.ShapeDtypeStruct((1, size, size, 3), jnp.float32)
  shapes = jax.eval_shape(model.init, jax.random.key(0), images)
  wanted, found = (
    {name: x.shape for name, x in manifest.flatten(tree).items()}
    for tree in (shapes, (saved.params, saved.state))
  )
  for name in sorted(wanted.keys() | found.keys()):
    there, here = found.get(name), wanted.get(name)
    if there != here:
      raise errors.UserError(
        f'{workdir} has a run with another network or number of'
        f' classes ({name} has shape {there}, but {here} here): {remedy}'
      )
