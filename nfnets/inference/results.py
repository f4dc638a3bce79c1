"""Predictions as a table, CSV or JSON, on a terminal or in a file."""

import csv
import json
from collections.abc import Iterable
from typing import NamedTuple, TextIO

from nfnets import errors
from nfnets.inference.network import Guess


class Prediction(NamedTuple):
  """The most likely classes of an image, best first."""

  image: str
  guesses: tuple[Guess, ...]


def write_table(predictions: Iterable[Prediction], file: TextIO) -> None:
  """Writes a table that fits the terminal, after the last prediction."""
  import rich.console
  import rich.table

  table = rich.table.Table()
  table.add_column('Image', overflow='fold')
  table.add_column('Class')
  table.add_column('Probability', justify='right')
  for prediction in predictions:
    for rank, guess in enumerate(prediction.guesses):
      table.add_row(
        '' if rank else errors.printable(prediction.image),
        errors.printable(guess.name),
        f'{guess.probability:.2%}',
        end_section=rank == len(prediction.guesses) - 1,
      )
  # Names such as 'cat[/].jpg' and ':dog:' are not markup.
  rich.console.Console(file=file, markup=False, emoji=False).print(table)


def write_json(predictions: Iterable[Prediction], file: TextIO) -> None:
  """Writes a JSON list with an object per image, one after the other."""
  separator = '[\n'
  for prediction in predictions:
    row = {
      'image': prediction.image,
      'predictions': [guess._asdict() for guess in prediction.guesses],
    }
    text = json.dumps(row, indent=2).replace('\n', '\n  ')
    file.write(f'{separator}  {text}')
    separator = ',\n'
  file.write('[]\n' if separator == '[\n' else '\n]\n')


def write_csv(predictions: Iterable[Prediction], file: TextIO) -> None:
  """Writes a row per image and class, one after the other."""
  writer = csv.writer(file, lineterminator='\n')
  writer.writerow(['image', 'rank', 'label', 'name', 'probability'])
  for prediction in predictions:
    image = errors.printable(prediction.image)
    for rank, guess in enumerate(prediction.guesses, 1):
      name = errors.printable(guess.name)
      writer.writerow([image, rank, guess.label, name, guess.probability])


WRITERS = {'table': write_table, 'json': write_json, 'csv': write_csv}
