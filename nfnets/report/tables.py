"""The numbers of a report as CSV."""

import csv
import io
from collections.abc import Iterable, Sequence

from nfnets import errors
from nfnets.report import numbers


def per_class(summary: numbers.Summary, class_names: Sequence[str]) -> str:
  """Returns a line per class, in the order of the labels."""
  classes = summary.classes
  columns = (column.tolist() for column in classes)
  rows = zip(range(len(class_names)), class_names, *columns, strict=True)
  return csv_text(
    ['label', 'class', 'images', 'predicted', 'precision', 'recall', 'f1'],
    rows,
  )


def confusion(pairs: numbers.Pairs, class_names: Sequence[str]) -> str:
  """Returns a line per entry of the confusion matrix that is not 0."""
  return csv_text(
    ['true', 'predicted', 'images'],
    (
      [class_names[true], class_names[predicted], count]
      for true, predicted, count in zip(
        *(column.tolist() for column in pairs), strict=True
      )
    ),
  )


def calibration(summary: numbers.Summary) -> str:
  """Returns a line per bin of the reliability diagram."""
  bins = summary.calibration
  ends = [(i + 1) / numbers.BINS for i in range(numbers.BINS)]
  columns = (bins.images, bins.confidence, bins.accuracy)
  return csv_text(
    ['confidence_up_to', 'images', 'mean_confidence', 'accuracy'],
    zip(ends, *(column.tolist() for column in columns), strict=True),
  )


def csv_text(header: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
  """Returns a table as CSV.

  Args:
    header: the names of the columns.
    rows: their values; text is made printable.
  """
  out = io.StringIO()
  writer = csv.writer(out, lineterminator='\n')
  writer.writerow(header)
  for row in rows:
    writer.writerow(
      errors.printable(x) if isinstance(x, str) else x for x in row
    )
  return out.getvalue()
