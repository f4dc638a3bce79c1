"""Describes a data set: `python -m nfnets.data DATASET`."""

import argparse

from nfnets import cli, files


def _parse() -> argparse.Namespace:
  parser = argparse.ArgumentParser(
    prog='python -m nfnets.data',
    description=(
      'Reads a data set the way training does, and prints its splits, classes,'
      ' class balance, image sizes and unreadable files. Writes a sheet of'
      ' samples.'
    ),
  )
  parser.add_argument(
    'dataset',
    help="'digits', 'folder:/path/to/images', 'imagenet2012' or another TFDS"
    ' data set',
  )
  parser.add_argument(
    '--data_dir',
    metavar='FOLDER',
    help='folder of prepared TFDS data sets, or of ImageNet',
  )
  parser.add_argument(
    '--limit',
    type=_positive,
    metavar='N',
    help='read at most N images of each split, evenly spaced (default: all)',
  )
  parser.add_argument(
    '--grid',
    default='samples.png',
    metavar='FILE',
    help='PNG file to write samples to (default: %(default)s)',
  )
  return parser.parse_args()


def _positive(text: str) -> int:
  value = int(text)
  if value < 1:
    raise argparse.ArgumentTypeError(f'{value} is not at least 1')
  return value


def main() -> None:
  """Prints the description and writes the samples."""
  args = _parse()
  sheet = files.user_path(args.grid, '--grid')
  from nfnets.data import describe, grid

  opened, refused = describe.open_splits(args.dataset, args.data_dir)
  first = next(iter(opened.values()))
  print(f'{args.dataset}: {describe.class_line(first.class_names)}')
  seen: list[str] = []
  for split, source in opened.items():
    known = (s for s in seen if describe.same_examples(opened[s], source))
    if twin := next(known, None):
      print(f'{split}: the same {len(source)} examples as {twin}')
      continue
    seen.append(split)
    report = describe.examine(source, args.limit)
    print('\n'.join(describe.report_lines(report, source.class_names)))
  for split, reason in refused.items():
    print(f'{split}: not available ({reason})')
  grid.write_grid(sheet, *describe.samples(first, 36))
  print(f'samples of {first.split}: {sheet}')


if __name__ == '__main__':
  cli.run(main)
