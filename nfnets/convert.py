"""Converts weights to another layout, or exports them as a program.

python -m nfnets.convert SOURCE DESTINATION --to=LAYOUT
"""

import argparse
import os
from typing import TYPE_CHECKING

from nfnets import cli, errors, files

if TYPE_CHECKING:
  pass

_LAYOUTS = {
  'nfnets': 'safetensors with model, options and class names',
  'deepmind': 'a pickle in the format of the published files',
  'timm': "a folder for timm's local-dir, or its state dict (*.safetensors)",
  'folded': 'nfnets with standardization and gains folded into the filters',
  'stablehlo': 'a jax.export program for cpu, cuda and tpu, any batch size,'
  ' and DESTINATION.json, which describes it',
  'onnx': 'an ONNX model of opset 20, any batch size',
}

# Option -> the layouts that it applies to.
_APPLIES = {
  'uint8': ('stablehlo', 'onnx'),
  'probabilities': ('stablehlo', 'onnx'),
  'preprocess': ('onnx',),
}


def main() -> None:
  """Reads the command line and converts the weights."""
  options = _parser().parse_args()
  source = files.user_path(options.source, 'SOURCE')
  destination = files.user_path(options.destination, 'DESTINATION')
  if not os.path.isdir(destination.parent):
    raise errors.UserError(f'{destination.parent}: no such directory')
  _check_program_options(options)
  # Imported here to keep --help fast: JAX takes seconds to load.
  from nfnets.export import targets
  from nfnets.inference import sources
  from nfnets.runtime import compilation, platforms

  compilation.prepare()
  platforms.check()
  loaded = sources.load_weights(
    source,
    options.model,
    options.best,
    step=options.step,
    ema=options.ema,
    refit=options.refit_from_timm,
  )
  targets.write(
    loaded,
    destination,
    options.to,
    uint8=options.uint8,
    probabilities=options.probabilities,
    preprocess=options.preprocess,
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
  for name, layouts in _APPLIES.items():
    if getattr(options, name) and options.to not in layouts:
      raise errors.UserError(
        f'--{name} is for --to={" and --to=".join(layouts)}, not'
        f' --to={options.to}; omit it'
      )


def _add_program_arguments(parser: argparse.ArgumentParser) -> None:
  program = parser.add_argument_group('options for stablehlo and onnx')
  images = program.add_mutually_exclusive_group()
  images.add_argument(
    '--uint8',
    action='store_true',
    help='input uint8[b, S, S, 3], not normalized float32',
  )
  images.add_argument(
    '--preprocess',
    action='store_true',
    help='for onnx: input uint8[b, H, W, 3] of any size, resized, cropped and'
    ' normalized by the program',
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
  which = run.add_mutually_exclusive_group()
  which.add_argument(
    '--step', type=int, help='the step of the checkpoint (default: latest)'
  )
  which.add_argument(
    '--best',
    action='store_true',
    help='use the checkpoint with the best held-out accuracy',
  )


if __name__ == '__main__':
  cli.run(main)
