import csv
import io

import numpy as np

from nfnets.report import numbers, tables
from tests.report import made

NAMES = ['a,"b"', 'c\nd', 'e\udcff', *'fghi']


def rows(text):
  return list(csv.DictReader(io.StringIO(text)))


def test_classes():
  summary = numbers.summarize(made.outcomes(), 7)
  found = rows(tables.per_class(summary, NAMES))
  assert [row['class'] for row in found[:3]] == ['a,"b"', r'c\nd', r'e\udcff']
  for name in ('images', 'precision', 'recall', 'f1'):
    np.testing.assert_array_equal(
      [float(row[name]) for row in found], getattr(summary.classes, name)
    )


def test_confusion():
  outcomes = made.outcomes()
  found = rows(tables.confusion(numbers.confusion(outcomes), NAMES))
  assert sum(int(row['images']) for row in found) == 400
  diagonal = [x for x in found if x['true'] == x['predicted'] == 'f']
  expected = np.sum((outcomes.label == 3) & (outcomes.predicted == 3))
  assert [int(row['images']) for row in diagonal] == [expected]


def test_calibration():
  summary = numbers.summarize(made.outcomes())
  found = rows(tables.calibration(summary))
  assert len(found) == 15 and found[-1]['confidence_up_to'] == '1.0'
  gaps = [
    int(x['images']) * abs(float(x['accuracy']) - float(x['mean_confidence']))
    for x in found
  ]
  np.testing.assert_allclose(sum(gaps) / 400, summary.calibration.error)
