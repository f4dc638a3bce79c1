"""Converts weights to another layout, or exports them as a program.

python -m nfnets.convert SOURCE DESTINATION --to=LAYOUT
"""

import argparse
import os
import pathlib
from typing import TYPE_CHECKING

from nfnets import cli, errors, files

if TYPE_CHECKING:
  from nfnets import weights

_LAYOUTS = {
  'nfnets': 'safetensors with model, options and class names',
  'deepmind': 'a pickle in the format of the published files',
  'timm': "safetensors of timm's state dict",
  'folded': 'nfnets with standardization and gains folded into the filters',
  'stablehlo': 'a jax.export program for cpu, cuda and tpu, any batch size',
}


def main() -> None:
  """Reads the command line and converts the weights."""
  options = _parser().parse_args()
  source = files.user_path(options.source, 'SOURCE')
  destination = files.user_path(options.destination, 'DESTINATION')
  if not os.path.isdir(destination.parent):
    raise errors.UserError(f'{destination.parent}: no such directory')
  # Imported here to keep --help fast: JAX takes seconds to load.
  from nfnets import runs, weights
  from nfnets.runtime import compilation, platforms

  compilation.prepare()
  platforms.check()
  if os.path.isdir(source):
    if options.refit_from_timm:
      raise errors.UserError(
        f'{source}: --refit_from_timm is for files from timm, and this is a'
        ' directory; omit it'
      )
    step = runs.best_step(source) if options.best else options.step
    loaded = runs.load(source, options.ema, step)
  else:
    if options.best:
      raise errors.UserError(
        f'--best: {source} is not the workdir of a training run; omit it'
      )
    loaded = weights.load_model(
      source, options.model, refit=options.refit_from_timm
    )
  write(loaded, destination, options.to, refit=options.refit_to_timm)
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
  _add_run_arguments(parser)
  _add_refit_arguments(parser)
  return parser


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
  run = parser.add_argument_group('options for training runs')
  run.add_argument(
    '--ema',
    action=argparse.BooleanOptionalAction,
    default=True,
    help='use the moving average of the weights, if the run kept one (default)',
  )
  which = run.add_mutually_exclusive_group()
  which.add_argument(
    '--step', type=int, help='the step of the checkpoint (default: latest)'
  )
  which.add_argument(
    '--best',
    action='store_true',
    help='use the checkpoint with the best held-out accuracy',
  )


def _add_refit_arguments(parser: argparse.ArgumentParser) -> None:
  refit = parser.add_argument_group(
    'options for dm_nfnet networks, which timm standardizes with another'
    ' epsilon',
    'timm also computes GELU with erf, which is activation=gelu_erf here',
  )
  refit.add_argument(
    '--refit_from_timm',
    action='store_true',
    help="change the gains of timm's file so that our filters equal timm's",
  )
  refit.add_argument(
    '--refit_to_timm',
    action='store_true',
    help="with --to=timm: change the gains so that timm's filters equal ours",
  )


def write(
  loaded: 'weights.Loaded',
  destination: pathlib.Path,
  layout: str,
  *,
  refit: bool = False,
) -> None:
  """Writes a network to a file.

  Args:
    loaded: the network.
    destination: the file to write; an existing one is replaced atomically.
    layout: a layout that --help lists.
    refit: see `weights.save`.

  Raises:
    UserError: the layout cannot store this network, or the file cannot be
      written.
  """
  from nfnets import inference, models, weights
  from nfnets.weights import files as weights_files
  from nfnets.weights import tree

  if layout in ('folded', 'stablehlo'):
    model, params = models.for_inference(loaded.model, loaded.params)
    loaded = loaded._replace(model=model, params=params)
  if layout == 'stablehlo':
    with weights_files.replacing(destination) as temporary:
      temporary.write_bytes(inference.export_program(loaded))
    return
  weights.save(
    destination,
    loaded.params,
    loaded.state,
    loaded.model.config.name,
    'nfnets' if layout == 'folded' else layout,
    class_names=loaded.class_names,
    images=loaded.images,
    eval_preset=loaded.eval_preset,
    refit=refit,
    **tree.options(loaded.model.config),
  )


if __name__ == '__main__':
  cli.run(main)
