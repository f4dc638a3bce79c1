"""Lists every model.

python -m nfnets.models [NAME...]
"""

import argparse
import fnmatch
import sys

from nfnets import cli, errors


def main() -> None:
  """Reads the command line and prints the table."""
  parser = argparse.ArgumentParser(
    prog='python -m nfnets.models',
    description='Lists every model: size, cost, published accuracy, and where'
    ' its weights come from.',
  )
  parser.add_argument(
    'names', nargs='*', metavar='NAME', help="such as nfnet_f0 or 'nfnet_f*'"
  )
  options = parser.parse_args()
  # JAX is imported here: --help answers at once.
  from nfnets import models

  names = [
    name
    for name in models.list_models()
    if not options.names
    or any(fnmatch.fnmatchcase(name, wanted) for wanted in options.names)
  ]
  if not names:
    raise errors.UserError(
      f'no model is called {" or ".join(options.names)}; python -m'
      ' nfnets.models lists all'
    )
  _print_table(names)


def _print_table(names: list[str]) -> None:
  import rich.console
  import rich.table

  from nfnets import models
  from nfnets.models import catalogue

  table = rich.table.Table(
    caption='GMACs: 10^9 multiply-accumulates of convolutions and matrix'
    ' products per image. Top-1: ImageNet accuracy in %, at the test size, of'
    ' the published network (F0-F6: of the paper; others: of timm).',
    caption_justify='left',
  )
  table.add_column('Model', no_wrap=True)
  for column in (
    'Parameters (M)', 'Train px', 'GMACs', 'Test px', 'GMACs', 'Top-1'
  ):  # fmt: skip
    table.add_column(column, justify='right')
  table.add_column('Weights')
  for name in names:
    config = models.create_model(name).config
    row, published = catalogue.ROWS[name], catalogue.PUBLISHED.get(name)
    table.add_row(
      name,
      f'{row.parameters / 1e6:.3f}',
      str(config.train_size),
      f'{row.macs_train / 1e9:.3f}',
      str(config.test_size),
      f'{row.macs_test / 1e9:.3f}',
      f'{published.top1:.1f}' if published else '-',
      published.weights if published else 'none published',
    )
  # A pipe or a file has no width: nothing is cut off there.
  width = None if sys.stdout.isatty() else 140
  rich.console.Console(width=width).print(table)


if __name__ == '__main__':
  cli.run(main)
