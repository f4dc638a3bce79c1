import html.parser
import re

import numpy as np
import pytest

from nfnets.report import numbers, page
from tests.report import made

HOSTILE = '<script>alert("1")</script>\'"&\udcff\x1b[31m‮'
SECTIONS = (
  *('accuracy', 'mistakes', 'hits', 'confusion', 'calibration', 'curves'),
  'classes',
)


class Reader(html.parser.HTMLParser):
  """Collects the tags and texts of a page, and the nesting errors."""

  VOID = {'meta', 'img', 'br'}

  def __init__(self, text):
    super().__init__()
    self.tags, self.ids, self.texts, self.open = [], [], [], []
    self.feed(text)
    self.close()
    assert not self.open

  def handle_starttag(self, tag, attributes):
    self.tags.append((tag, dict(attributes)))
    self.ids += [value for name, value in attributes if name == 'id']
    if tag not in self.VOID:
      self.open.append(tag)

  def handle_startendtag(self, tag, attributes):
    self.tags.append((tag, dict(attributes)))

  def handle_endtag(self, tag):
    assert self.open.pop() == tag

  def handle_data(self, data):
    self.texts.append(data.strip())


def contents(outcomes, names, **changes):
  rows = {*page.mistakes(outcomes).tolist(), *page.hits(outcomes).tolist()}
  pictures = {row: page.Picture(b'jpeg', True, f'f/{names[0]}') for row in rows}
  network = page.Network('weights', numbers.summarize(outcomes, len(names)))
  curves = {'train/loss': [(1, 2.0), (2, 1.0)], 'eval/top1': [(2, 0.5)]}
  given = page.Contents(
    'title', 2, {'data': 'x'}, [network], outcomes, names, pictures, curves
  )
  return given._replace(**changes)


@pytest.mark.parametrize('classes', [1, 2, 7, 50, 60])
def test_every_section_is_there_and_well_formed(classes):
  outcomes = made.outcomes(classes)
  text = page.render(contents(outcomes, [f'c{i}' for i in range(classes)]))
  reader = Reader(text)
  assert tuple(reader.ids) == SECTIONS
  summary = numbers.summarize(outcomes, classes)
  top1 = summary.top1
  interval = f'{top1.value:.2%} ({top1.low:.2%} to {top1.high:.2%})'
  assert interval in reader.texts
  assert f'{summary.calibration.error:.2%}' in text
  assert ('viewBox' in text) and page.step_tag(2) in text
  found = sum(tag == 'polyline' for tag, _ in reader.tags)
  assert found == 2
  cells = sum(
    tag == 'rect' and a['class'] in ('own', 'other') for tag, a in reader.tags
  )
  pairs = numbers.confusion(outcomes)
  assert cells == (len(pairs.images) if classes <= 50 else 0)


def test_names_are_escaped_and_nothing_is_loaded():
  names = [HOSTILE, *'bcdefg']
  outcomes = made.outcomes()
  text = page.render(
    contents(outcomes, names, title=HOSTILE, facts={'data': HOSTILE})
  )
  text.encode()
  assert '<script' not in text and '\x1b' not in text and '‮' not in text
  reader = Reader(text)
  assert {'script', 'link', 'iframe', 'object'}.isdisjoint(
    tag for tag, _ in reader.tags
  )
  for tag, attributes in reader.tags:
    assert not any(name.startswith('on') for name in attributes), tag
    for name in attributes.keys() & {'src', 'href', 'data', 'action'}:
      assert attributes[name].startswith('data:image/jpeg;base64,')
  shown = '<script>alert("1")</script>\'"&\\udcff\\x1b[31m\\u202e'
  assert shown in reader.texts
  assert "default-src 'none'" in text
  assert not re.search(r'https?://', text)


def test_pictures_have_classes_and_probabilities():
  outcomes = made.outcomes()
  names = [f'c{i}' for i in range(7)]
  reader = Reader(page.render(contents(outcomes, names)))
  row = page.mistakes(outcomes)[0]
  predicted = names[outcomes.predicted[row]]
  assert f'{predicted} {outcomes.confidence[row]:.2%}' in reader.texts
  probability = np.exp(-outcomes.loss[row])
  true = names[outcomes.label[row]]
  assert f'is {true} {probability:.2%}' in reader.texts
  hit = page.hits(outcomes)[0]
  text = f'{names[outcomes.label[hit]]} {outcomes.confidence[hit]:.2%}'
  assert text in reader.texts


def test_sections_without_content_say_so():
  outcomes = made.outcomes(7)
  right = outcomes._replace(predicted=outcomes.label)
  names = [f'c{i}' for i in range(7)]
  text = page.render(contents(right, names, curves={}))
  assert 'every image is classified correctly' in text
  assert 'No class is confused with another' in text
  assert 'no run belongs to these weights' in text
  wrong = outcomes._replace(predicted=(outcomes.label + 1) % 7)
  text = page.render(contents(wrong, names))
  assert 'no image is classified correctly' in text


def test_a_thousand_classes_fit_in_a_small_page():
  outcomes = made.outcomes(1000, 50_000)
  text = page.render(contents(outcomes, [f'n{i:08d}' for i in range(1000)]))
  Reader(text)
  assert len(text) < 500_000
  assert '1000 classes</summary>' in text


def test_classes_are_sorted_by_f1_and_those_without_images_are_last():
  outcomes = made.outcomes(7)
  classes = numbers.summarize(outcomes, 9).classes
  rows = page._class_rows(classes, [str(i) for i in range(9)])
  f1 = [row[-1] for row in rows[:7]]
  assert f1 == sorted(f1) and [row[0] for row in rows[7:]] == ['7', '8']
