"""Several evaluated weights files in one table."""

import logging
import pathlib
import re
from collections.abc import Sequence
from typing import NamedTuple

from nfnets import errors, files
from nfnets.report import numbers, tables

_log = logging.getLogger(__name__)

FOLDER = 'eval'
"""The folder in the workdir with the reports of weights files."""
TABLE = 'comparison.csv'
"""The table's name in it."""


class Row(NamedTuple):
  """An evaluated weights file.

  Attributes:
    weights: the file or id as the user gave it.
    summary: its numbers.
    parameters: number of parameters.
    seconds: the time of the evaluation, reading the images included.
    page: its report; None if it cannot be written.
  """

  weights: str
  summary: numbers.Summary
  parameters: int
  seconds: float
  page: pathlib.Path | None


def folders(
  workdir: pathlib.Path, weights_files: Sequence[str]
) -> list[pathlib.Path]:
  """Returns a folder for the report of each weights file, named after it."""
  taken: list[str] = []
  for weights_file in weights_files:
    name = re.sub(r'[^\w.+-]', '_', pathlib.Path(weights_file).name)[:100]
    name = name.strip('.') or 'weights'
    count = 1
    while (numbered := name if count == 1 else f'{name}-{count}') in taken:
      count += 1
    taken.append(numbered)
  return [workdir / FOLDER / name for name in taken]


def show(rows: Sequence[Row], workdir: pathlib.Path) -> None:
  """Prints a table and the paths of the reports, and writes the table as CSV.

  Args:
    rows: the weights files.
    workdir: the folder with the reports.
  """
  import rich.box
  import rich.console
  import rich.table

  table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
  table.add_column('weights', overflow='fold')
  for name in ('top-1', '95% interval', 'ECE', 'loss', 'parameters', 'seconds'):
    table.add_column(name, justify='right', no_wrap=True)
  for row in rows:
    table.add_row(*_cells(row))
  # Names such as 'cat[/].npz' and ':dog:' are not markup.
  rich.console.Console(markup=False, emoji=False).print(table)
  for row in rows:
    if row.page:
      print(f'report: {row.page}')
  _write(rows, workdir / FOLDER / TABLE)


def _cells(row: Row) -> list[str]:
  summary = row.summary
  return [
    errors.printable(row.weights),
    f'{summary.top1.value:.2%}',
    f'{100 * summary.top1.low:.1f} - {summary.top1.high:.1%}',
    f'{summary.calibration.error:.2%}',
    '' if summary.loss != summary.loss else f'{summary.loss:.4f}',
    f'{row.parameters:,}',
    f'{row.seconds:.1f}',
  ]


def _write(rows: Sequence[Row], path: pathlib.Path) -> None:
  """Writes the table; warns if that fails."""
  values = [
    {
      'weights': row.weights,
      'images': row.summary.images,
      **numbers.metrics(row.summary),
      'parameters': row.parameters,
      'seconds': round(row.seconds, 3),
    }
    for row in rows
  ]
  # Networks with at most five classes have no top 5.
  names = list(dict.fromkeys(name for line in values for name in line))
  text = tables.csv_text(
    names, [[line.get(name, '') for name in names] for line in values]
  )
  try:
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.replacing(path) as temporary:
      temporary.write_text(text, encoding='utf-8')
  except OSError as error:
    _log.warning('the table %s cannot be written: %s', path, error.strerror)
  else:
    print(f'table: {path}')
