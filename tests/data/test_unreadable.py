import io
import logging
import os
import pathlib
import socket

import cv2
import numpy as np
import pytest
from PIL import Image as pil_image

from nfnets import errors, files
from nfnets.data import images, pipeline, positions, sources
from tests.data import pictures, test_image_size


def load(root):
  return sources.load_source(f'folder:{root}', 'all')


def train(source, batch_size=20, max_unreadable_share=0.5, **reading):
  return pipeline.train_batches(
    source,
    batch_size=batch_size,
    image_size=8,
    seed=0,
    reading=pipeline.Reading(
      max_unreadable_share=max_unreadable_share, **reading
    ),
  )


def test_training_reports_each_once_and_continues(folder, caplog):
  root, bad = folder
  batches = train(load(root))
  with caplog.at_level(logging.WARNING):
    for k in range(6):  # Two epochs.
      assert batches[k]['mask'].all()
  assert batches.unreadable.keys() == bad.keys()
  assert len(caplog.records) == len(bad)
  text = caplog.text
  for path in bad:
    assert f'{path}: {batches.unreadable[path]};' in text
  assert 'the next readable one takes its place' in text


def test_reports_escape_names_and_show_no_bytes(folder, caplog):
  root, bad = folder
  path = next(iter(bad))
  pathlib.Path(path).write_bytes(b'secret!!')
  os.rename(path, os.path.join(os.path.dirname(path), '\x1b[2J\n.png'))
  batches = train(load(root))
  for k in range(6):
    assert batches[k]['mask'].all()
  messages = [record.getMessage() for record in caplog.records]
  assert all(message.isprintable() for message in messages)
  assert any('/\\x1b[2J\\n.png: not an image' in text for text in messages)
  assert 'secret' not in caplog.text


def test_next_readable_example_replaces_an_unreadable_one(tmp_path):
  paths = pictures.write_class_folders(tmp_path, range(10))
  source = load(tmp_path)
  order = sorted(map(str, paths))
  for index in (4, 5, 9):
    with open(order[index], 'wb'):
      pass
  batches = train(source, batch_size=10)
  indices = positions.epoch_order(0, 0, 10)
  wanted = {4: 6, 5: 6, 9: 0}
  labels = [source.labels[wanted.get(i, i)] for i in indices.tolist()]
  assert batches[0]['label'].tolist() == labels


def test_replacements_depend_only_on_the_step(folder):
  root, _ = folder
  source = load(root)
  batch = train(source, num_threads=1)[2]
  others = [train(source, num_threads=8)[2]]
  parts = [train(source, process_index=i, process_count=2)[2] for i in (0, 1)]
  others.append(
    {key: np.concatenate([part[key] for part in parts]) for key in batch}
  )
  for other in others:
    for key in batch:
      np.testing.assert_array_equal(batch[key], other[key])


def test_evaluation_skips_unreadable_examples(folder):
  root, bad = folder
  source = load(root)
  batches = pipeline.eval_batches(
    source,
    batch_size=7,
    image_size=8,
    reading=pipeline.Reading(max_unreadable_share=0.5),
  )
  made = list(batches)
  assert sum(int(batch['mask'].sum()) for batch in made) == 60 - len(bad)
  assert batches.unreadable.keys() == bad.keys()
  readable = np.bincount(
    np.concatenate([batch['label'][batch['mask']] for batch in made])
  )
  expected = np.bincount(source.labels)
  for path in bad:
    expected[int(path.split('/')[-2])] -= 1
  assert readable.tolist() == expected.tolist()


@pytest.mark.parametrize('fraction', [0.0, 0.1])
def test_too_many_stop_the_run(folder, fraction):
  root, _ = folder
  batches = train(load(root), max_unreadable_share=fraction)
  match = f'of 60 images .* more than max_unreadable_share={fraction:g}'
  with pytest.raises(errors.UserError, match=match):
    for k in range(3):
      batches[k]
  assert len(batches.unreadable) <= 60 * fraction + 1


def test_strict_stops_at_the_first(folder):
  root, bad = folder
  for batches in (
    train(load(root), strict=True),
    pipeline.eval_batches(
      load(root),
      batch_size=60,
      image_size=8,
      reading=pipeline.Reading(strict=True),
    ),
  ):
    with pytest.raises(errors.UserError, match='set strict to False') as caught:
      for k in range(3):
        batches[k]
    assert str(caught.value).split(': ')[0] in bad


def test_folder_with_only_damaged_files_is_an_error(tmp_path):
  for path in pictures.write_class_folders(tmp_path, range(20)):
    path.write_bytes(b'not an image')
  with pytest.raises(errors.UserError, match='of 20 images'):
    train(load(tmp_path), batch_size=2)[0]


def test_deleted_file_is_unreadable(tmp_path):
  paths = pictures.write_class_folders(tmp_path, range(10))
  source = load(tmp_path)
  paths[3].unlink()
  batches = train(source, batch_size=10)
  assert batches[0]['mask'].all()
  assert batches.unreadable == {str(paths[3]): 'No such file or directory'}


def unusual(image):
  """Yields names and bytes of valid files of unusual kinds."""
  gray = image[..., 0]
  pil = pil_image.fromarray(image)
  alpha = np.full((*gray.shape, 1), 255, np.uint8)
  kinds = {
    'gray.PNG': (pil.convert('L'), 'PNG'),
    'gray.jpg': (pil.convert('L'), 'JPEG'),
    'cmyk.jpg': (pil.convert('CMYK'), 'JPEG'),
    'palette.png': (pil.convert('P'), 'PNG'),
    'alpha.png': (pil_image.fromarray(np.dstack([image, alpha])), 'PNG'),
    'a_png.jpg': (pil, 'PNG'),
    'a_webp.JPG': (pil, 'WEBP'),
    'gif.gif': (pil, 'GIF'),
    'bmp.Bmp': (pil, 'BMP'),
    'sixteen.png': (pil_image.fromarray(gray.astype(np.uint16) * 257), 'PNG'),
  }
  for name, (kind, format_name) in kinds.items():
    file = io.BytesIO()
    kind.save(file, format_name)
    yield name, file.getvalue()


def test_two_thousand_images_with_twenty_damaged(tmp_path):
  paths = pictures.write_class_folders(tmp_path, range(1797))
  for number in range(193):
    image, label = pictures.digit(number)
    photograph = pictures.photograph(32, 48)[:, number % 16 :][:, :32]
    path = tmp_path / str(label) / f'photograph{number}.jpg'
    path.write_bytes(pictures.encode(photograph // 2 + image // 2))
  three, _ = pictures.digit(3)
  for name, data in unusual(three):
    (tmp_path / '3' / name).write_bytes(data)
  bad = set()
  for path, kind in zip(paths[::90], 2 * list(range(10)), strict=True):
    path.write_bytes(list(pictures.broken(path.read_bytes()).values())[kind])
    bad.add(str(path))

  train = load_split(tmp_path, 'train')
  valid = load_split(tmp_path, 'valid')
  assert len(train) + len(valid) == 2000
  batches = pipeline.train_batches(train, batch_size=250, image_size=8, seed=0)
  for k in range(8):
    assert batches[k]['mask'].all()
  held_out = pipeline.eval_batches(valid, batch_size=64, image_size=32)
  counted = sum(int(batch['mask'].sum()) for batch in held_out)
  assert {*batches.unreadable, *held_out.unreadable} == bad
  assert counted == len(valid) - len(held_out.unreadable)

  # The unusual files all decode to the same three, in class 3.
  for source in (train, valid):
    for index in range(len(source)):
      example_id = source[index]['id']
      if example_id.split('/')[-1] not in dict(unusual(three)):
        continue
      assert source[index]['label'] == 3
      shown = images.decode(source[index]['image'])
      assert np.abs(shown.astype(int) - three).mean() < 12, example_id


def load_split(root, split):
  return sources.load_source(f'folder:{root}', split)


def _place(kind, path):
  """Puts what is not a regular file, or too large a one, at a path."""
  if kind == 'pipe':
    os.mkfifo(path)
  elif kind == 'socket':
    with socket.socket(socket.AF_UNIX) as server:
      server.bind(str(path))
  elif kind == 'device':
    path.symlink_to('/dev/zero')
  else:
    path.write_bytes(test_image_size.CLAIMS[kind])


@pytest.mark.parametrize(
  'kind', ['pipe', 'socket', 'device', 'jpeg', 'png', 'gif']
)
def test_hostile_files_are_unreadable(tmp_path, kind):
  paths = pictures.write_class_folders(tmp_path, range(20))
  paths[0].unlink()
  _place(kind, paths[0])
  reason = 'not a regular file'
  if kind in test_image_size.CLAIMS:
    reason = '30000 x 31000 pixels, more than max_pixels=100000000'
  batches = train(load(tmp_path))
  assert batches[0]['mask'].all()
  assert batches.unreadable == {str(paths[0]): reason}
  with pytest.raises(errors.UserError, match=reason):
    train(load(tmp_path), strict=True)[0]


def test_limit_of_pixels_of_training_and_evaluation(tmp_path):
  pictures.write_class_folders(tmp_path, range(20))
  image = pictures.encode(np.zeros((33, 32, 3), np.uint8), '.png')
  (tmp_path / '0' / 'large.png').write_bytes(image)
  source = load(tmp_path)
  reading = pipeline.Reading(max_unreadable_share=0.5, max_pixels=32 * 32)
  training = train(source, batch_size=21, max_pixels=32 * 32)
  evaluation = pipeline.eval_batches(
    source, batch_size=21, image_size=8, reading=reading
  )
  assert training[0]['mask'].sum() == 21
  assert evaluation[0]['mask'].sum() == 20
  large = {str(tmp_path / '0' / 'large.png')}
  assert training.unreadable.keys() == evaluation.unreadable.keys() == large


@pytest.mark.parametrize('where', ['read', 'resize'])
def test_image_that_does_not_fit_in_memory(tmp_path, monkeypatch, where):
  paths = pictures.write_class_folders(tmp_path, range(20))
  source = load(tmp_path)
  calls = []

  def fail_once(original):
    def function(*arguments, **options):
      calls.append(arguments)
      if len(calls) == 1:
        raise MemoryError
      return original(*arguments, **options)

    return function

  if where == 'read':
    function = fail_once(files.open_regular)
    monkeypatch.setattr(files, 'open_regular', function)
  else:
    monkeypatch.setattr(cv2, 'resize', fail_once(cv2.resize))
  batches = train(source, num_threads=1)
  assert batches[0]['mask'].all()
  assert list(batches.unreadable.values()) == ['does not fit in memory']
  assert batches.unreadable.keys() <= set(map(str, paths))
