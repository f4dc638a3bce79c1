"""Trains, evaluates or compiles a network.

python -m nfnets.experiment --config=FILE[:VARIANT]
    [--config.KEY=VALUE ...] [--workdir=DIR] [--mode=train|eval|compile] ...

Without --config, the settings are those of the run in --workdir.
"""

import argparse
import pathlib

from nfnets import cli, files
from nfnets.experiment import variants


def main() -> int:
  """Reads the command line, then trains, evaluates or compiles."""
  parser = _parser()
  options, rest = parser.parse_known_args()
  if options.help:
    parser.epilog = _list_variants(options.config)
    parser.print_help()
    return 0

  if options.topology and options.mode != 'compile':
    parser.error(f'--topology={options.topology} needs --mode=compile')
  if (options.weights or options.best) and options.mode != 'eval':
    option = '--weights' if options.weights else '--best'
    parser.error(f'{option} needs --mode=eval')

  # Imported late and in order of cost: --help and errors are instant.
  from nfnets.experiment import command_line

  workdir = options.workdir and files.user_path(options.workdir, '--workdir')
  weights = [str(files.user_path(w, '--weights')) for w in options.weights]
  if not (options.config or workdir):
    workdir = next(filter(_is_run, map(pathlib.Path, weights)), None)
  config, name = command_line.parse_config(
    [f'--config={options.config}', *rest], workdir
  )
  workdir = workdir or pathlib.Path('runs', name)

  from nfnets.experiment import ahead, build, evaluate, train
  from nfnets.runtime import compilation, distributed, platforms

  build.make_model(config, num_classes=1)  # Finds errors before JAX starts.
  compilation.prepare(only_here=not options.topology)
  if options.mode == 'compile':
    if not options.topology:
      platforms.check()
    return ahead.report(config, options.topology)
  with distributed.connected(
    options.coordinator,
    options.num_processes,
    options.process_id,
    options.connect_seconds,
  ):
    platforms.check()
    if options.mode == 'eval':
      return evaluate.evaluate(config, workdir, weights, options.best)
    return train.train(config, workdir)


def _is_run(path: pathlib.Path) -> bool:
  from nfnets.training import workdir

  return (path / workdir.CHECKPOINTS).is_dir()


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m nfnets.experiment',
    usage='%(prog)s --config=FILE[:VARIANT]\n'
    '    [--config.KEY=VALUE ...] [options]',
    allow_abbrev=False,
    add_help=False,
    formatter_class=argparse.RawDescriptionHelpFormatter,
    description='Trains, evaluates or compiles a network.\n\n'
    'Rerunning the command resumes from the latest checkpoint. SIGTERM,\n'
    'Ctrl-C and SIGHUP (a closed terminal) save a checkpoint first, then exit\n'
    'with status 143, 130 and 129.',
  )
  # Not argparse's own: the list of variants depends on --config.
  parser.add_argument(
    '-h', '--help', action='store_true', help='show this message and exit'
  )
  _add_settings(parser)
  parser.add_argument(
    '--workdir',
    metavar='DIR',
    help='folder for checkpoints, metrics and TensorBoard logs'
    ' (default: runs/, then the names of the file and the variant)',
  )
  parser.add_argument(
    '--mode',
    choices=('train', 'eval', 'compile'),
    default='train',
    help='eval measures the latest checkpoint or --weights and writes a report;'
    ' compile prints the memory, FLOPs and collectives of both programs, for'
    ' accelerators also an estimate of the time, and runs nothing (default:'
    ' %(default)s)',
  )
  _add_weights(parser)
  _add_topology(parser)
  _add_processes(parser)
  return parser


def _add_weights(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    '--weights',
    metavar='FILE_OR_WORKDIR',
    action='append',
    default=[],
    help='with --mode=eval: a weights file or the workdir of a run, to measure'
    ' instead of the checkpoint in --workdir; several, each with its own'
    ' --weights, are compared in a table',
  )
  parser.add_argument(
    '--best',
    action='store_true',
    help='with --mode=eval: measure the checkpoint of a run with the best'
    ' held-out accuracy, not the latest',
  )


def _add_topology(parser: argparse.ArgumentParser) -> None:
  parser.add_argument(
    '--topology',
    metavar='NAME',
    help='with --mode=compile: accelerators to compile for, which need not be'
    ' there: a slice of TPUs such as v5e:4x4 (needs libtpu), h100 or h100:8'
    ' (needs "jax[cuda12]"); default: the devices of this machine',
  )


def _add_settings(parser: argparse.ArgumentParser) -> None:
  group = parser.add_argument_group(
    'settings',
    '--config.KEY=VALUE changes one setting of the experiment, such as\n'
    '--config.train.batch_size=32. nfnets/experiment/settings.py lists all.',
  )
  group.add_argument(
    '--config',
    metavar='FILE[:VARIANT]',
    default='',
    help='the experiment, such as experiments/digits.py or'
    ' experiments/nf_regnet.py:b1 (default: the settings of the run in'
    ' --workdir)',
  )


def _add_processes(parser: argparse.ArgumentParser) -> None:
  group = parser.add_argument_group(
    'several hosts',
    'Slurm, Open MPI, Cloud TPU pods, Kubernetes and SkyPilot are detected.\n'
    'Elsewhere, set the first three. docs/hosts.md has recipes.',
  )
  group.add_argument(
    '--coordinator',
    metavar='HOST:PORT',
    help='address of process 0 and any free port'
    ' (default: $JAX_COORDINATOR_ADDRESS)',
  )
  group.add_argument(
    '--num_processes',
    type=int,
    metavar='N',
    help='number of processes; 1 trains on this host alone'
    ' (default: $JAX_NUM_PROCESSES)',
  )
  group.add_argument(
    '--process_id',
    type=int,
    metavar='I',
    help='0 to N - 1, one per process (default: $JAX_PROCESS_ID)',
  )
  group.add_argument(
    '--connect_seconds',
    type=int,
    default=45,
    metavar='S',
    help='how long the processes wait for each other to start'
    ' (default: %(default)s)',
  )


def _list_variants(config: str) -> str:
  """Lists the variants of the files beside `config`, or in ./experiments."""
  folders = [pathlib.Path('experiments')]
  if config:
    file = str(files.user_path(config, '--config')).partition(':')[0]
    folders.insert(0, pathlib.Path(file).parent)
  for folder in folders:
    lines = variants.describe(folder)
    if lines:
      return '\n  '.join(['variants:', *lines])
  return ''


if __name__ == '__main__':
  cli.run(main)
