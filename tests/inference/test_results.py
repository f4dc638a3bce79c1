import csv
import io
import json

import pytest

from nfnets.inference import network, results

PREDICTIONS = [
  results.Prediction(
    'a,"b".jpg',
    (network.Guess(1, 'cat', 0.75), network.Guess(0, 'dog\n', 0.25)),
  ),
  results.Prediction('c.jpg', (network.Guess(0, 'dog\n', 1.0),)),
]


def _written(name, predictions):
  file = io.StringIO()
  results.WRITERS[name](iter(predictions), file)
  return file.getvalue()


@pytest.mark.parametrize('count', [0, 1, 2])
def test_json_is_a_list_of_images(count):
  expected = [
    {
      'image': prediction.image,
      'predictions': [guess._asdict() for guess in prediction.guesses],
    }
    for prediction in PREDICTIONS[:count]
  ]
  assert json.loads(_written('json', PREDICTIONS[:count])) == expected


def test_csv_has_a_row_per_guess():
  rows = list(csv.DictReader(io.StringIO(_written('csv', PREDICTIONS))))
  assert [(row['image'], row['rank'], row['label']) for row in rows] == [
    ('a,"b".jpg', '1', '1'),
    ('a,"b".jpg', '2', '0'),
    ('c.jpg', '1', '0'),
  ]
  assert [float(row['probability']) for row in rows] == [0.75, 0.25, 1.0]
  assert rows[1]['name'] == 'dog\\n'


def test_table_names_each_image_once():
  text = _written('table', PREDICTIONS)
  assert text.count('a,"b".jpg') == 1
  assert '75.00%' in text
