"""Converts weights to another layout, or exports them as a program.

python -m nfnets.convert SOURCE DESTINATION --to=LAYOUT
"""

import argparse
import logging
import os
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from nfnets import cli, errors, files

if TYPE_CHECKING:
  from nfnets import weights
  from nfnets.training import dataset as dataset_lib
  from nfnets.weights import tree

_log = logging.getLogger(__name__)

_LAYOUTS = {
  'nfnets': 'safetensors with model, options and class names',
  'deepmind': 'a pickle in the format of the published files',
  'timm': "a folder for timm's local-dir, or its state dict (*.safetensors)",
  'folded': 'nfnets with standardization and gains folded into the filters',
  'stablehlo': 'a jax.export program for cpu, cuda and tpu, any batch size,'
  ' and DESTINATION.json, which describes it',
  'onnx': 'an ONNX model of opset 20, any batch size',
}

_PROGRAMS = ('stablehlo', 'onnx')

# The settings of a run that are read besides those of its model.
_KINDS = {
  'model.name': str,
  'data.eval_preset': str,
  'data.image_size': int,
  'data.eval_size': int,
}

# A run's settings by dotted name, read from JSON: values of any type.
_Settings = Mapping[str, Any]


def main() -> None:
  """Reads the command line and converts the weights."""
  options = _parser().parse_args()
  source = files.user_path(options.source, 'SOURCE')
  destination = files.user_path(options.destination, 'DESTINATION')
  if not os.path.isdir(destination.parent):
    raise errors.UserError(f'{destination.parent}: no such directory')
  _check_program_options(options)
  # Imported here to keep --help fast: JAX takes seconds to load.
  from nfnets import weights
  from nfnets.runtime import compilation, platforms

  compilation.prepare()
  platforms.check()
  if os.path.isdir(source):
    if options.refit_from_timm:
      raise errors.UserError(
        f'{source}: --refit_from_timm is for files from timm, and this is a'
        ' directory; omit it'
      )
    loaded = load_run(source, options.ema, options.step)
  else:
    loaded = weights.load_model(
      source, options.model, refit=options.refit_from_timm
    )
  from nfnets.export import targets

  targets.write(
    loaded,
    destination,
    options.to,
    uint8=options.uint8,
    probabilities=options.probabilities,
  )
  print(f'{destination}: {loaded.model.config.name}, layout {options.to}')


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m nfnets.convert',
    description='Converts weights from one layout to another.',
    formatter_class=argparse.RawDescriptionHelpFormatter,
    epilog='layouts:\n'
    + '\n'.join(f'  {name:10}{what}' for name, what in _LAYOUTS.items()),
  )
  parser.add_argument(
    'source',
    metavar='SOURCE',
    help='a file in any of the first four layouts, the workdir of a training'
    ' run, or a Hugging Face id such as timm/dm_nfnet_f0.dm_in1k',
  )
  parser.add_argument(
    'destination', metavar='DESTINATION', help='the file to write'
  )
  parser.add_argument(
    '--to', required=True, choices=_LAYOUTS, help='the layout to write'
  )
  parser.add_argument(
    '--model', metavar='NAME', help='required if SOURCE does not specify it'
  )
  parser.add_argument(
    '--refit_from_timm',
    action='store_true',
    help="change the gains of timm's dm_nfnet file so that our filters equal"
    " timm's, which have another epsilon; timm also computes GELU with erf,"
    ' which is activation=gelu_erf here',
  )
  _add_run_arguments(parser)
  _add_program_arguments(parser)
  return parser


def _check_program_options(options: argparse.Namespace) -> None:
  for name in ('uint8', 'probabilities'):
    if getattr(options, name) and options.to not in _PROGRAMS:
      raise errors.UserError(
        f'--{name} is for --to={" and --to=".join(_PROGRAMS)}, not'
        f' --to={options.to}; omit it'
      )


def _add_program_arguments(parser: argparse.ArgumentParser) -> None:
  program = parser.add_argument_group('options for stablehlo and onnx')
  program.add_argument(
    '--uint8',
    action='store_true',
    help='input uint8[b, S, S, 3], not normalized float32',
  )
  program.add_argument(
    '--probabilities', action='store_true', help='output probabilities'
  )


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
  run = parser.add_argument_group('options for training runs')
  run.add_argument(
    '--ema',
    action=argparse.BooleanOptionalAction,
    default=True,
    help='use the moving average of the weights, if the run kept one (default)',
  )
  run.add_argument(
    '--step', type=int, help='the step of the checkpoint (default: latest)'
  )


def load_run(
  workdir: pathlib.Path, ema: bool, step: int | None
) -> 'weights.Loaded':
  """Loads the network of a training run.

  Args:
    workdir: the workdir of `nfnets.experiment`.
    ema: whether to use the moving average of the weights, if the run kept one.
    step: the step of the checkpoint; None selects the latest.

  Returns:
    The network with its class names and evaluation preset.

  Raises:
    UserError: the checkpoint does not exist or cannot be read.
  """
  from nfnets import models, weights
  from nfnets.training import checkpoint
  from nfnets.training import workdir as workdir_lib
  from nfnets.weights import class_names, tree

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


def _images(dataset: 'dataset_lib.Dataset | None') -> dict[str, int]:
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


def _model_options(settings: _Settings) -> 'tree.Options':
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


if __name__ == '__main__':
  cli.run(main)
