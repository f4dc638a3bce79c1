"""Pictures, labels and data sets that are not as expected."""

import os
import re
import shutil
import time

import cv2
import numpy as np
import psutil
import pytest
from PIL import Image as pil_image
from tensorflow_datasets.proto import tf_example_pb2

from tests.data import pictures, records
from tests.faults import runs

EVAL = ('nfnets.experiment', *runs.OPTIONS, '--mode=eval')


@pytest.fixture
def folder(tmp_path):
  pictures.write_class_folders(tmp_path / 'train', range(200))
  pictures.write_class_folders(tmp_path / 'test', range(200, 300))
  return tmp_path


def train(folder, *options, **kwargs):
  return runs.run(
    *runs.TRAIN,
    f'--config.dataset=folder:{folder}',
    f'--workdir={folder}/run',
    *options,
    **kwargs,
  )


@pytest.mark.slow
def test_damaged_pictures_are_reported_and_replaced(folder):
  good = pictures.encode(pictures.digit(0)[0], '.png')
  for kind, data in list(pictures.broken(good).items())[:5]:
    (folder / 'train' / '3' / f'{kind}.png').write_bytes(data)
  end = runs.succeed(train(folder))
  for kind in list(pictures.broken(good))[:5]:
    assert f'{kind}.png: ' in end.err
  assert 'Traceback' not in end.err
  assert set(runs.metrics(folder / 'run', 'eval/top1')['eval/top1']) == {
    4, 8, 12,
  }  # fmt: skip
  end = train(folder, '--config.data.strict=true', f'--workdir={folder}/two')
  runs.assert_one_line(end, f'{folder}/train/3/', '.png')


@pytest.mark.slow
def test_too_many_damaged_pictures(folder):
  for path in sorted((folder / 'train').rglob('*.png'))[::4]:
    path.write_bytes(b'')
  runs.assert_one_line(train(folder), 'max_unreadable_share=0.05')


@pytest.mark.slow
def test_too_many_damaged_held_out_pictures(folder):
  for path in sorted((folder / 'test').rglob('*.png'))[::4]:
    path.write_bytes(b'')
  end = train(folder)
  runs.assert_one_line(end, '25 of 100 images', 'max_unreadable_share=0.05')
  assert not (folder / 'run').exists()


@pytest.mark.slow
@pytest.mark.parametrize(
  'paths, expected',
  [
    (['p/p/cat', 'p/p/dog'], '/p/p contains 2 folders of images (cat, dog)'),
    (['p/cat'], "/p: only one class, 'cat'"),
    (['train/cat', 'train/dog', 'val'], '/val: its images, such as 0.png'),
    (['train', 'val'], 'no classes, only splits (train, val)'),
  ],
)
def test_folders_that_are_not_what_they_seem(tmp_path, paths, expected):
  for path in paths:
    (tmp_path / path).mkdir(parents=True)
    for number in range(5):
      data = pictures.encode(pictures.digit(number)[0], '.png')
      (tmp_path / path / f'{number}.png').write_bytes(data)
  given = tmp_path / 'p' if (tmp_path / 'p').exists() else tmp_path
  for command in (
    ('nfnets.data', f'folder:{given}'),
    (*runs.TRAIN, f'--config.dataset=folder:{given}', f'--workdir={given}/run'),
  ):
    runs.assert_one_line(runs.run(*command), expected)


@pytest.mark.parametrize('encoding', ['ascii', 'latin-1:strict', 'utf-8'])
def test_names_of_all_kinds_in_any_output(tmp_path, encoding):
  root = tmp_path / 'p[copy]:cat:'
  for label in (
    b'[red]dog',
    'k\u00e4tze'.encode(),
    '\u732b'.encode(),
    b'c\xff',
  ):
    (root / os.fsdecode(label)).mkdir(parents=True)
    for name in ('photo[copy].jpg', 'img:cat:.jpg', os.fsdecode(b'\xfe.jpg')):
      (root / os.fsdecode(label) / name).write_bytes(b'damaged')
    good = pictures.encode(pictures.digit(0)[0])
    for number in range(20):
      (root / os.fsdecode(label) / f'{number}.jpg').write_bytes(good)
  end = runs.run(
    'nfnets.data',
    f'folder:{root}',
    cwd=tmp_path,
    encoding=encoding.partition(':')[0],
    env={'PYTHONIOENCODING': encoding, 'PYTHONPATH': str(runs.ROOT)},
  )
  assert (end.status, end.err) == (0, ''), end
  for text in (
    '4 classes: [red]dog, c\\udcff, k',
    '[red]dog/photo[copy].jpg: not an image',
    '[red]dog/img:cat:.jpg: not an image',
    'c\\udcff/\\udcfe.jpg: not an image',
  ):
    assert text in end.out


def test_every_kind_of_picture_is_read(tmp_path):
  photo = pictures.photograph()
  image = pil_image.fromarray(photo)
  turned = pil_image.Exif()
  turned[0x0112] = 6
  (tmp_path / 'p' / 'a').mkdir(parents=True)
  folder = pictures.write_class_folders(tmp_path / 'p', range(20))[0].parents[1]
  image.convert('CMYK').save(folder / 'a' / 'cmyk.jpg')
  image.convert('L').save(folder / 'a' / 'gray.jpg')
  image.convert('RGBA').save(folder / 'a' / 'rgba.png')
  image.convert('P').save(folder / 'a' / 'palette.png')
  image.save(folder / 'a' / 'named_jpg.jpg', 'PNG')
  image.save(folder / 'a' / 'exif.jpg', exif=turned)
  deep = photo.astype(np.uint16)[..., ::-1] * 257
  cv2.imwrite(str(folder / 'a' / 'deep.png'), deep)
  end = runs.succeed(runs.run('nfnets.data', f'folder:{folder}', cwd=tmp_path))
  assert end.err == '', end
  assert set(re.findall(r'unreadable: (\d+)', end.out)) == {'0'}, end.out


@pytest.mark.slow
@pytest.mark.parametrize('label', [-1, 10, 2**40])
def test_a_label_out_of_range(tmp_path, label):
  directory = records.tfrecord_digits(tmp_path, 'wrong', shards=1)
  example = tf_example_pb2.Example()
  feature = example.features.feature
  image = pictures.encode(pictures.digit(0)[0], '.png')
  feature['image'].bytes_list.value.append(image)
  feature['label'].int64_list.value.append(label)
  for path in directory.glob('*train*'):
    records.write_tfrecords(path, [example.SerializeToString()] * 1437)
  end = runs.run(
    *runs.TRAIN,
    '--config.dataset=wrong',
    f'--config.data.data_dir={tmp_path}',
    f'--workdir={tmp_path}/run',
  )
  runs.assert_one_line(end, f'label {label} is', 'tfrecord-')


@pytest.mark.parametrize(
  'options, expected',
  [
    (('--config.dataset=imagenet2012',), 'imagenet2012'),
    (('--config.dataset=cifra10',), 'cifra10'),
    (('--config.dataset=folder:/no/such/place',), '/no/such/place'),
    (('--config.data.train_split=extra',), 'extra'),
    (
      ('--config.dataset=mnist', '--config.data.data_dir=/no/such/place'),
      '/no/such/place',
    ),
  ],
)
def test_data_that_is_not_there(tmp_path, options, expected):
  begun = time.monotonic()
  end = runs.run(*runs.TRAIN, f'--workdir={tmp_path}/run', *options)
  runs.assert_one_line(end, expected)
  assert time.monotonic() - begun < 60  # no retries
  assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_fewer_pictures_than_a_batch(folder):
  """A batch may contain a picture twice; a step is never empty."""
  shutil.rmtree(folder / 'train')
  pictures.write_class_folders(folder / 'train', range(20))
  runs.succeed(train(folder))
  assert runs.checkpoints(folder / 'run') == [4, 8, 12]


@pytest.mark.slow
@pytest.mark.parametrize('devices, batch', [(1, 7), (4, 100), (2, 360)])
def test_an_evaluation_counts_every_picture_once(whole, devices, batch):
  default = runs.run(*EVAL, f'--workdir={whole}')
  other = runs.run(
    *EVAL,
    f'--workdir={whole}',
    f'--config.eval.batch_size={batch // devices * devices}',
    devices=devices,
  )
  assert runs.succeed(other).out == runs.succeed(default).out
  assert 'on 360 images' in default.out


@pytest.mark.slow
def test_a_worker_that_is_killed_ends_the_run(folder):
  process = runs.start(
    *runs.TRAIN,
    f'--config.dataset=folder:{folder}',
    f'--workdir={folder}/run',
    '--config.data.num_workers=2',
    '--config.train.steps=100000',
  )
  checkpoint = folder / 'run' / 'checkpoints' / '4'
  runs.wait_for(checkpoint.exists, process)
  children = psutil.Process(process.pid).children(recursive=True)
  workers = [c for c in children if 'spawn_main' in ' '.join(c.cmdline())]
  assert len(workers) == 2
  begun = time.monotonic()
  for worker in workers:
    worker.kill()
  end = runs.finish(process, timeout=120)
  assert time.monotonic() - begun < 60
  assert end.status not in (0, None), end
  assert 'error: a data worker died' in end.err
  assert 'Traceback' not in end.err, end.err
