import numpy as np
import pytest

from nfnets import errors
from nfnets.data import describe, sources
from tests.data import pictures


@pytest.fixture
def folder(tmp_path):
  paths = pictures.write_class_folders(tmp_path, range(50))
  paths[3].write_bytes(b'not an image')
  large = pictures.encode(pictures.photograph(60, 100))
  (tmp_path / '0' / 'large.jpg').write_bytes(large)
  return tmp_path, paths


def load(root):
  return sources.load_source(f'folder:{root}', 'all')


def test_report(folder):
  root, paths = folder
  source = load(root)
  report = describe.examine(source)
  expected = np.bincount(source.labels)
  expected[3] -= 1
  assert report.class_counts.tolist() == expected.tolist()
  assert report.examples == 51
  assert len(report.sizes) == 50
  assert report.sizes.max(0).tolist() == [60, 100]
  assert [entry.id for entry in report.unreadable] == [str(paths[3])]
  text = '\n'.join(describe.report_lines(report, source.class_names))
  assert text.startswith('all: 51 examples\n')
  assert 'height, pixels: 32 to 60, median 32, mean 32.6' in text
  assert 'width, pixels: 32 to 100, median 32, mean 33.4' in text
  assert f'unreadable: 1\n    {paths[3]}: not an image' in text
  assert '; 0: ' in text


def test_names_are_escaped(folder):
  root, paths = folder
  (root / '\x1b[2J').mkdir()
  paths[0].rename(root / '\x1b[2J' / paths[0].name)
  paths[3].rename(root / '\x1b[2J' / 'bad\r.jpg')
  source = load(root)
  report = describe.examine(source)
  lines = describe.report_lines(report, source.class_names)
  lines.append(describe.class_line(source.class_names))
  assert all(line.isprintable() for line in lines)
  assert f'    {root}/\\x1b[2J/bad\\r.jpg: not an image' in '\n'.join(lines)
  assert '\\x1b[2J: 1' in '\n'.join(lines)


def test_limit_reads_evenly_spaced_examples(folder):
  source = load(folder[0])
  report = describe.examine(source, 10)
  assert report.class_counts.sum() + len(report.unreadable) == 10
  assert (report.class_counts > 0).sum() >= 8
  lines = describe.report_lines(report, source.class_names)
  assert lines[0] == 'all: 51 examples, 10 of them read'


def test_spread():
  assert describe.spread(10, 5) == [0, 2, 4, 6, 8]
  assert describe.spread(3, 3) == [0, 1, 2]
  assert describe.spread(0, 0) == []


def test_samples_are_readable_and_named(folder):
  root, _ = folder
  images, names = describe.samples(load(root), 51)
  assert images.shape == (50, 144, 144, 3)
  assert len(names) == 50
  assert images.any((1, 2, 3)).all()


def test_splits_with_the_same_examples():
  loaded, refused = describe.open_splits('digits', None)
  assert not refused
  assert describe.same_examples(loaded['valid'], loaded['test'])
  assert not describe.same_examples(loaded['train'], loaded['test'])


def test_missing_data_set_is_an_error(tmp_path):
  with pytest.raises(errors.UserError, match='there is no folder'):
    describe.open_splits(f'folder:{tmp_path}/nope', None)


def test_class_line():
  assert describe.class_line(('a', 'b')) == '2 classes: a, b'
  line = describe.class_line(tuple(map(str, range(20))))
  assert line == '20 classes: 0, 1, 2, 3, 4, 5, 6, 7, ...'


def test_splits_in_which_nothing_can_be_read(folder):
  root, paths = folder
  (root / '0' / 'large.jpg').unlink()
  for path in paths:
    path.write_bytes(b'not an image')
  source = load(root)
  report = describe.examine(source)
  reason = 'not an image, or a damaged one'
  assert describe.report_lines(report, source.class_names) == [
    'all: 50 examples',
    f'  unreadable: all 50, such as {report.unreadable[0].id}: {reason}',
  ]
  with pytest.raises(errors.UserError) as caught:
    describe.samples(source, 36)
  assert str(caught.value).startswith(
    f'folder:{root}, split all: none of 36 images can be read, so there are no'
    f' samples; for example, {root}/'
  )
