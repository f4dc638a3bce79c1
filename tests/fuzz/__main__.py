"""Mutates files and gives them to every reader.

python -m tests.fuzz [--minutes=N] [--seed=N] [--reader=NAME ...]

Inputs that were once found come first. A traceback, a crash, more than 5
seconds, too much memory and anything executed are findings: the input is
stored, and the exit status is 1.
"""

import argparse
import pathlib
import random
import sys
import tempfile

from tests.fuzz import campaign

READERS = {
  'weights': 'tests.fuzz.networks:WEIGHTS',
  'snapshots': 'tests.fuzz.networks:SNAPSHOTS',
  'images': 'tests.fuzz.readers:IMAGES',
  'records': 'tests.fuzz.readers:RECORDS',
  'indexes': 'tests.fuzz.readers:INDEXES',
  'checkpoints': 'tests.fuzz.networks:CHECKPOINTS',
  'settings': 'tests.fuzz.readers:SETTINGS',
  'metrics': 'tests.fuzz.readers:METRICS',
  'results': 'tests.fuzz.readers:RESULTS',
}


def main() -> int:
  """Reads the command line, runs the readers and prints their counts."""
  options = _parser().parse_args()
  seed = random.randrange(10**6) if options.seed is None else options.seed
  names = options.reader or list(READERS)
  folder = pathlib.Path(tempfile.mkdtemp(prefix='nfnets-fuzz-'))
  print(f'seed {seed}')
  total, findings = 0, []
  seconds = 60 * options.minutes / len(names)
  for name in names:
    counts = campaign.run(name, READERS[name], seconds, seed, folder)
    total += counts.inputs
    findings += counts.findings
    print(
      f'{name:12} {counts.inputs} inputs: {counts.read} read,'
      f' {counts.refused} refused, {len(counts.findings)} findings;'
      f' {counts.inputs / counts.seconds:.0f} inputs/s',
      flush=True,
    )
    for found in counts.findings:
      why = found.with_suffix('.txt').read_text()
      print(f'  {found}: {campaign.summary(why)}')
  print(f'{total} inputs, {len(findings)} findings')
  if not findings:
    folder.rmdir()
    return 0
  print(
    f'The inputs and the tracebacks are in {folder}. Once fixed, copy the'
    f' files that matter to {campaign.CORPUS}/READER/NAME/.'
  )
  return 1


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m tests.fuzz',
    description='Gives mutated files to every reader. Exit status: 1 if one'
    ' ends in anything else than success or an error of one sentence.',
  )
  parser.add_argument(
    '--minutes',
    type=float,
    default=1.0,
    metavar='N',
    help='duration, split between the readers (default: %(default)s)',
  )
  parser.add_argument(
    '--seed',
    type=int,
    metavar='N',
    help='seed of all inputs (default: a random one, which is printed)',
  )
  parser.add_argument(
    '--reader',
    nargs='+',
    choices=list(READERS),
    metavar='NAME',
    help=f'some of {", ".join(READERS)} (default: all)',
  )
  return parser


if __name__ == '__main__':
  sys.exit(main())
