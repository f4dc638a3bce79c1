"""Benchmarks networks or the input pipeline.

python -m nfnets.benchmark MODEL... [--size=PIXELS] [--batch=N] [--vs=timm] ...
python -m nfnets.benchmark data [...]
"""

import argparse
import contextlib
import json
import pathlib
import sys

from nfnets import cli, errors, files


def main() -> int:
  """Parses the command line and runs the benchmark."""
  arguments = sys.argv[1:]
  if arguments[:1] == ['data']:
    return _run_data(_data_parser().parse_args(arguments[1:]))
  return _run_models(_model_parser().parse_args(arguments))


def _model_parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m nfnets.benchmark',
    description='Measures the forward pass and the train step of networks:'
    ' time, rate, memory, and the time of each part. "python -m'
    ' nfnets.benchmark data" measures the input pipeline instead (see its'
    ' --help).',
  )
  parser.add_argument(
    'models',
    nargs='*',
    default=['nfnet_f0'],
    metavar='MODEL',
    help='models to measure (default: nfnet_f0)',
  )
  parser.add_argument(
    '--size',
    type=_positive,
    metavar='PIXELS',
    help="height and width of the images (default: the model's training size)",
  )
  parser.add_argument(
    '--batch',
    type=_positive,
    nargs='+',
    default=[4],
    metavar='N',
    help='images per batch, one or more values (default: 4)',
  )
  _add_measurement_options(parser)
  _add_comparison(parser)
  _add_json_option(parser)
  return parser


def _add_comparison(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    '--vs',
    choices=('timm', 'onnx'),
    help='peer to compare with, measured in turn: timm on PyTorch, with and'
    ' without its gradient clipping; or the forward pass, exported to ONNX, in'
    ' ONNX Runtime and OpenVINO on a CPU, which measures nothing else',
  )
  parser.add_argument(
    '--in-flight',
    type=_positive,
    metavar='N',
    help='also measure the time per run of N runs that are dispatched without'
    ' waiting in between, from which the rates are computed (default: 20 on'
    ' accelerators; 1, which measures nothing more, on CPUs, where a program'
    ' runs in the calling thread)',
  )


def _add_measurement_options(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    '--dtype',
    nargs='+',
    default=['float32'],
    choices=('float32', 'bfloat16'),
    help='one or more values (default: float32)',
  )
  parser.add_argument(
    '--rounds',
    type=_positive,
    default=7,
    metavar='N',
    help='number of timed runs of each program (default: %(default)s)',
  )
  parser.add_argument(
    '--lowering',
    choices=('plain', 'grouped_dense', 'matmul'),
    help='how to lower convolutions (default: chosen by platform and shape)',
  )
  parser.add_argument(
    '--remat',
    action='store_true',
    help='recompute blocks in the backward pass to save memory',
  )
  parser.add_argument(
    '--no-parts',
    action='store_true',
    help="do not profile the published recipe's step by part",
  )
  parser.add_argument(
    '--trace',
    metavar='DIR',
    help='keep the profile in DIR, for TensorBoard or Perfetto',
  )


def _add_json_option(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    '--json',
    action='store_true',
    help='print one JSON record per line instead of text',
  )


def _data_parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m nfnets.benchmark data',
    description='Measures images per second of the input pipeline and, in turn'
    ' with it, of tf.data, Pillow and the DataLoader of torch.',
  )
  parser.add_argument(
    '--size',
    type=_positive,
    default=224,
    metavar='PIXELS',
    help='height and width of the crops (default: %(default)s)',
  )
  parser.add_argument(
    '--batch',
    type=_positive,
    default=64,
    metavar='N',
    help='images per batch (default: %(default)s)',
  )
  parser.add_argument(
    '--rounds',
    type=_positive,
    default=5,
    metavar='N',
    help='number of measurements of each pipeline (default: %(default)s)',
  )
  _add_resource_options(parser)
  _add_json_option(parser)
  return parser


def _add_resource_options(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    '--threads',
    type=_positive,
    metavar='N',
    help='threads per pipeline (default: the number of available cores)',
  )
  parser.add_argument(
    '--workers',
    type=int,
    default=0,
    metavar='N',
    help='worker processes of our pipeline (default: 0, threads only)',
  )
  parser.add_argument(
    '--peer-python',
    default=sys.executable,
    metavar='PYTHON[,PYTHON]',
    help='interpreters that have tensorflow and torch (default: this one)',
  )


def _positive(text: str) -> int:
  value = int(text)
  if value < 1:
    raise argparse.ArgumentTypeError(f'{value} is not at least 1')
  return value


def _run_models(options: argparse.Namespace) -> int:
  trace = _trace_folder(options.trace)
  # Imported here so that --help and usage errors do not wait for JAX.
  from nfnets import models
  from nfnets.benchmark import programs, report, text
  from nfnets.layers import convolution
  from nfnets.runtime import compilation, platforms

  # Without the cache, since compile times are measured too.
  compilation.prepare(cache=False)
  platforms.check()
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
  forced: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
  if options.lowering:
    forced = convolution.lowering(options.lowering)
  with forced:
    for workload in workloads:
      record = report.measure(
        workload,
        rounds=options.rounds,
        in_flight=options.in_flight or _in_flight(),
        peer=options.vs,
        parts=not (options.no_parts or options.vs == 'onnx'),
        trace=trace,
        **overrides,
      )
      if options.json:
        settings = {'lowering': options.lowering, **overrides}
        lines = [json.dumps({**record, **settings})]
      else:
        lines = text.lines(record)
      print(*lines, sep='\n', flush=True)
  return 0


def _in_flight() -> int:
  """Returns the default of --in-flight."""
  import jax

  return 1 if jax.default_backend() == 'cpu' else 20


def _trace_folder(given: str | None) -> pathlib.Path | None:
  """Creates the folder for profiles, before anything is measured.

  Raises:
    UserError: it cannot be created.
  """
  if given is None:
    return None
  folder = files.user_path(given, '--trace')
  try:
    folder.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise errors.UserError(
      f'--trace={folder} cannot be created ({error.strerror}): choose another'
    ) from error
  return folder


def _interpreter(given: str) -> str:
  """Expands the path of an interpreter; a name without '/' is on $PATH."""
  if '/' not in given:
    return given
  return str(files.user_path(given, '--peer-python').absolute())


def _run_data(options: argparse.Namespace) -> int:
  from nfnets.benchmark import input as input_benchmark

  rates = input_benchmark.measure(
    image_size=options.size,
    batch_size=options.batch,
    num_threads=options.threads,
    num_workers=options.workers,
    rounds=options.rounds,
    peer_python=','.join(map(_interpreter, options.peer_python.split(','))),
  )
  lines = input_benchmark.lines(rates)
  if options.json:
    lines = [json.dumps(input_benchmark.record(rate)) for rate in rates]
  print(*lines, sep='\n')
  return 0


if __name__ == '__main__':
  cli.run(main)
