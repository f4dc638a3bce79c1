"""Measures speed: of networks, and of the data pipeline.

python -m nfnets.benchmark MODEL... [--size=PIXELS] [--batch=N] [--vs=timm] ...
python -m nfnets.benchmark data [...]
"""

import argparse
import contextlib
import json
import math
import pathlib
import sys
from typing import Any

from nfnets import cli

_DEFAULT_SIZE = 'the training size of the model'


def main() -> int:
  """Reads the command line and measures."""
  arguments = sys.argv[1:]
  if arguments[:1] == ['data']:
    return _run_data(_data_parser().parse_args(arguments[1:]))
  return _run_models(_model_parser().parse_args(arguments))


def _model_parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m nfnets.benchmark',
    description='Forward pass and train step of networks: time, rate, memory,'
    ' and where the time goes. "python -m nfnets.benchmark data" measures the'
    ' input pipeline instead (--help after it shows its options).',
  )
  parser.add_argument(
    'models',
    nargs='*',
    default=['nfnet_f0'],
    metavar='MODEL',
    help='(default: nfnet_f0)',
  )
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
  _add_choices(parser)
  return parser


def _add_choices(parser: argparse.ArgumentParser) -> None:
  """What else is measured, and what comes out."""
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
    '--json', action='store_true', help='a record per line in place of text'
  )


def _data_parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m nfnets.benchmark data',
    description='Images per second of the input pipeline, in turn with others.',
  )
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
  parser.add_argument(
    '--json', action='store_true', help='a record per line in place of text'
  )
  return parser


def _positive(text: str) -> int:
  value = int(text)
  if value < 1:
    raise argparse.ArgumentTypeError(f'{value} is not at least 1')
  return value


def _run_models(options: argparse.Namespace) -> int:
  # Here, so that --help and mistakes answer at once.
  from nfnets import models
  from nfnets.benchmark import programs, report
  from nfnets.layers import convolution
  from nfnets.runtime import compilation

  # No cache: compile times are measured too.
  compilation.prepare(cache=False)
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
      record |= {'lowering': options.lowering, **overrides}
      text = [json.dumps(record)] if options.json else report.lines(record)
      print(*text, sep='\n', flush=True)
  return 0


def _run_data(options: argparse.Namespace) -> int:
  from nfnets.benchmark import input as input_benchmark

  rates = input_benchmark.measure(
    image_size=options.size,
    batch_size=options.batch,
    num_threads=options.threads,
    num_workers=options.workers,
    rounds=options.rounds,
    peer_python=options.peer_python,
  )
  lines = input_benchmark.lines(rates)
  if options.json:
    lines = [json.dumps(_rate_record(rate)) for rate in rates]
  print(*lines, sep='\n')
  return 0


def _rate_record(rate: Any) -> dict[str, Any]:
  """JSON has no NaN: what was not measured is null."""
  record = rate._asdict()
  if math.isnan(rate.images_per_second):
    record['images_per_second'] = None
  return record


if __name__ == '__main__':
  cli.run(main)
