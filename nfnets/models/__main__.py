"""Lists the models.

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
    description='Lists the models with their size, cost, published accuracy'
    ' and published weights.',
  )
  parser.add_argument(
    'names',
    nargs='*',
    metavar='NAME',
    help="e.g. nfnet_f0 or 'nfnet_f*' (default: all)",
  )
  options = parser.parse_args()
  # Imported here to keep --help fast: JAX takes seconds to load.
  from nfnets import models

  names = [
    name
    for name in models.list_models()
    if not options.names
    or any(fnmatch.fnmatchcase(name, wanted) for wanted in options.names)
  ]
  if not names:
    raise errors.UserError(
      f'no model is named {" or ".join(options.names)}; run python -m'
      ' nfnets.models to list all models'
    )
  _print_table(names)


def _print_table(names: list[str]) -> None:
  import rich.console
  import rich.table

  from nfnets import models
  from nfnets.models import catalogue

  table = rich.table.Table(
    caption='GMACs: 10^9 multiply-accumulates of convolutions and matrix'
    ' products per image. Top-1: published ImageNet accuracy in % at the test'
    ' size (F0-F6: from the paper; others: from timm).',
    caption_justify='left',
  )
  table.add_column('Model', no_wrap=True)
  for column in (
    'Parameters (M)', 'Train px', 'GMACs', 'Test px', 'GMACs', 'Top-1'
  ):  # fmt: skip
    table.add_column(column, justify='right')
  table.add_column('Weights')
  for name in names:
    config, row = models.create_model(name).config, catalogue.ROWS[name]
    published = catalogue.PUBLISHED.get(name)
    table.add_row(
      name,
      f'{row.parameters / 1e6:.3f}',
      str(config.train_size),
      f'{row.macs_train / 1e9:.3f}',
      str(config.test_size),
      f'{row.macs_test / 1e9:.3f}',
      f'{published.top1:.1f}' if published else '-',
      '; '.join(catalogue.published_weights(name)) or 'none published',
    )
  # Without a terminal, use a width at which rich truncates nothing.
  width = None if sys.stdout.isatty() else 140
  rich.console.Console(width=width).print(table)


if __name__ == '__main__':
  cli.run(main)
