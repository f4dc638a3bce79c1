"""Pictures, labels and data sets that are not as expected."""

import os
import re
import signal
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
  for path in sorted((folder / 'train').rglob('*.png'))[20:]:
    path.unlink()
  for digit in range(10):
    (folder / 'train' / str(digit)).mkdir(exist_ok=True)
  pictures.write_class_folders(folder / 'train', range(20))
  runs.succeed(train(folder))
  assert runs.checkpoints(folder / 'run') == [4, 8, 12]


@pytest.mark.slow
@pytest.mark.parametrize('devices, batch', [(1, 7), (4, 100), (2, 360)])
def test_an_evaluation_counts_every_picture_once(whole, devices, batch):
  def read(end):
    return [line.replace('loss -0', 'loss 0') for line in end.out.splitlines()]

  default = runs.run(*EVAL, f'--workdir={whole}')
  other = runs.run(
    *EVAL,
    f'--workdir={whole}',
    f'--config.eval.batch_size={batch // devices * devices}',
    devices=devices,
  )
  assert read(runs.succeed(other)) == read(runs.succeed(default))
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
  workers = [c for c in children if 'multiprocessing' in ' '.join(c.cmdline())]
  begun = time.monotonic()
  for worker in workers:
    if 'tracker' not in ' '.join(worker.cmdline()):
      os.kill(worker.pid, signal.SIGKILL)
  end = runs.finish(process, timeout=120)
  assert time.monotonic() - begun < 60
  assert end.status not in (0, None), end
  assert 'worker' in end.err
  assert 'Traceback' not in end.err, end.err
