"""Measures speed: of networks, and of the data pipeline.

python -m nfnets.benchmark MODEL... [--size=PIXELS] [--batch=N] [--vs=timm] ...
python -m nfnets.benchmark data [...]
"""

import argparse
import contextlib
import json
import pathlib
import sys
from typing import Any

from nfnets import cli

_DEFAULT_SIZE = 'the training size of the model'


def main() -> int:
  """Reads the command line and measures."""
  options = _parser().parse_args()
  return options.run(options)


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m nfnets.benchmark', description=__doc__.splitlines()[0]
  )
  commands = parser.add_subparsers(required=True, metavar='model | data')
  _add_model_options(
    commands.add_parser('model', help='forward pass and train step')
  )
  _add_data_options(
    commands.add_parser('data', help='images per second of the input pipeline')
  )
  return parser


def _add_model_options(parser: argparse.ArgumentParser) -> None:
  parser.add_argument('models', nargs='+', metavar='MODEL')
  parser.add_argument(
    '--size',
    type=_positive,
    metavar='PIXELS',
    help=f'side of the images (default: {_DEFAULT_SIZE})',
  )
  parser.add_argument(
    '--batch', type=_positive, nargs='+', default=[4], metavar='N'
  )
  parser.add_argument(
    '--dtype',
    nargs='+',
    default=['float32'],
    choices=('float32', 'bfloat16'),
  )
  parser.add_argument(
    '--rounds',
    type=_positive,
    default=7,
    metavar='N',
    help='times that each program runs, all in turn (default: %(default)s)',
  )
  parser.add_argument(
    '--vs', choices=('timm',), help='a peer that takes turns with ours'
  )
  parser.add_argument(
    '--lowering',
    choices=('plain', 'grouped_dense', 'matmul'),
    help='force how convolutions are done (default: by platform and shape)',
  )
  parser.add_argument(
    '--remat', action='store_true', help='recompute blocks in the gradient'
  )
  parser.add_argument(
    '--no-parts', action='store_true', help='do not profile the recipe'
  )
  parser.add_argument(
    '--trace',
    type=pathlib.Path,
    metavar='DIR',
    help='keep the profile there, for TensorBoard or Perfetto',
  )
  parser.add_argument(
    '--json',
    metavar='FILE',
    help="a record per line; '-' writes them in place of the text",
  )
  parser.set_defaults(run=_run_models)


def _add_data_options(parser: argparse.ArgumentParser) -> None:
  parser.add_argument('--size', type=_positive, default=224, metavar='PIXELS')
  parser.add_argument('--batch', type=_positive, default=64, metavar='N')
  parser.add_argument(
    '--threads', type=_positive, metavar='N', help='(default: the cores)'
  )
  parser.add_argument('--workers', type=int, default=0, metavar='N')
  parser.add_argument('--rounds', type=_positive, default=5, metavar='N')
  parser.add_argument(
    '--peer-python',
    default=sys.executable,
    metavar='PYTHON[,PYTHON]',
    help='interpreters that have tensorflow and torch (default: this one)',
  )
  parser.set_defaults(run=_run_data)


def _positive(text: str) -> int:
  value = int(text)
  if value < 1:
    raise argparse.ArgumentTypeError(f'{value} is not at least 1')
  return value


def _run_models(options: argparse.Namespace) -> int:
  # Here, so that --help and mistakes answer at once.
  from nfnets import models
  from nfnets.benchmarking import programs, report
  from nfnets.layers import convolution

  forced: contextlib.AbstractContextManager = contextlib.nullcontext()
  if options.lowering:
    forced = convolution.lowering(options.lowering)
  workloads = [
    programs.Workload(
      name,
      options.size or models.create_model(name).config.train_size,
      batch,
      dtype,
    )
    for name in options.models
    for batch in options.batch
    for dtype in options.dtype
  ]
  overrides = {'remat': True} if options.remat else {}
  with forced:
    for workload in workloads:
      record = report.measure(
        workload,
        rounds=options.rounds,
        peer=options.vs == 'timm',
        parts=not options.no_parts,
        trace=options.trace,
        **overrides,
      )
      _write(record | {'lowering': options.lowering, **overrides}, options.json)
  return 0


def _write(record: dict[str, Any], destination: str | None) -> None:
  """Prints a record, or adds it to a file."""
  from nfnets.benchmarking import report

  if destination == '-':
    print(json.dumps(record), flush=True)
    return
  print(*report.lines(record), sep='\n', flush=True)
  if destination:
    with open(destination, 'a') as file:
      file.write(json.dumps(record) + '\n')


def _run_data(options: argparse.Namespace) -> int:
  from nfnets.data import benchmark

  rates = benchmark.measure(
    image_size=options.size,
    batch_size=options.batch,
    num_threads=options.threads,
    num_workers=options.workers,
    rounds=options.rounds,
    peer_python=options.peer_python,
  )
  for rate in rates:
    print(f'{rate.name:24} {rate.images_per_second:8.0f} images/s', rate.reason)
  return 0


if __name__ == '__main__':
  cli.run(main)
