"""Trains or evaluates a network.

python -m nfnets.experiment --config=experiments/nfnet_f1.py
    [--workdir=DIR] [--mode=train|eval] [--config.key=value ...]
"""

import argparse
import pathlib

from nfnets import cli
from nfnets.experiment import command_line


def main() -> int:
  """Reads the command line; what is slow starts once all of it is right."""
  options, rest = _parser().parse_known_args()
  config, path = command_line.parse_config(rest)
  workdir = pathlib.Path(options.workdir or pathlib.Path('runs', path.stem))

  # JAX is imported here: --help and mistakes in settings answer at once.
  from nfnets.experiment import evaluate, train
  from nfnets.runtime import compilation, distributed

  compilation.prepare()
  distributed.initialize(
    options.coordinator, options.num_processes, options.process_id
  )
  if options.mode == 'eval':
    checkpoints = workdir / train.CHECKPOINTS
    return evaluate.evaluate(config, checkpoints, options.weights)
  return train.train(config, workdir)


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m nfnets.experiment',
    allow_abbrev=False,
    description='Trains or evaluates a network. The same command again goes'
    ' on from the newest checkpoint; SIGTERM and Ctrl-C save one first, and'
    ' exit with status 143 and 130.',
  )
  # Read by command_line.parse_config; here for --help.
  parser.add_argument_group(
    'settings',
    '--config=FILE names an experiment, such as experiments/digits.py;'
    ' --config.key=value changes one of its settings (nfnets/config.py has'
    ' them all), such as --config.train.batch_size=32',
  )
  parser.add_argument(
    '--workdir',
    metavar='DIR',
    help='of checkpoints, metrics and TensorBoard files'
    ' (default: runs/ and the name of the config)',
  )
  parser.add_argument(
    '--mode',
    choices=('train', 'eval'),
    default='train',
    help='eval measures the newest checkpoint, or --weights',
  )
  parser.add_argument(
    '--weights',
    metavar='FILE',
    help='with --mode=eval: a weights file, in place of a checkpoint',
  )
  processes = parser.add_argument_group(
    'several hosts',
    'Slurm, Open MPI and TPU pods are recognised; elsewhere give all three.',
  )
  processes.add_argument(
    '--coordinator', metavar='HOST:PORT', help='of process 0'
  )
  processes.add_argument('--num_processes', type=int, metavar='N')
  processes.add_argument('--process_id', type=int, metavar='I', help='from 0')
  return parser


if __name__ == '__main__':
  cli.run(main)
