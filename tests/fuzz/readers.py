"""The readers of files: what they are given, and what they must do with it."""

import functools
import io
import json
import logging
import os
import pathlib

import cv2
import numpy as np

from nfnets import errors
from tests.fuzz import judge, mutate

ROOT = pathlib.Path(__file__).parents[2]
_MAX_PIXELS = 2**20


def _image_seeds() -> list[mutate.Tree]:
  from PIL import Image

  pixels = np.random.default_rng(0).integers(0, 256, (8, 11, 3), np.uint8)
  pixels = cv2.resize(pixels, (22, 16))
  kinds = (
    ('JPEG', 'RGB', {}), ('JPEG', 'RGB', {'progressive': True}),
    ('JPEG', 'L', {}), ('JPEG', 'CMYK', {}), ('PNG', 'RGB', {}),
    ('PNG', 'RGBA', {}), ('PNG', 'P', {}), ('PNG', 'I;16', {}),
    ('GIF', 'P', {}), ('WEBP', 'RGB', {}), ('WEBP', 'RGBA', {'lossless': True}),
    ('BMP', 'RGB', {}), ('TIFF', 'RGB', {}),
    ('TIFF', 'RGB', {'compression': 'tiff_lzw'}),
    ('TIFF', 'L', {'compression': 'tiff_deflate'}),
  )  # fmt: skip
  seeds = []
  for kind, mode, options in kinds:
    file = io.BytesIO()
    image = Image.fromarray(pixels)
    image = Image.new(mode, (22, 16)) if ';' in mode else image.convert(mode)
    image.save(file, kind, **options)
    seeds.append({'image': file.getvalue()})
  return seeds


def _read_image(folder: pathlib.Path) -> None:
  from nfnets.data import crops, images

  data = (folder / 'image').read_bytes()
  out = np.zeros((16, 16, 3), np.uint8)
  draws = np.full((10, 4), 0.5)
  try:
    for reduction in (1, 8):
      image = images.decode(data, reduction, _MAX_PIXELS)
      assert image.dtype == np.uint8 and image.shape[2:] == (3,)
      assert image.shape[0] * image.shape[1] <= _MAX_PIXELS
    for preset in ('deepmind', 'timm'):
      crops.eval_crop(data, out, preset, 0.875, 'center', _MAX_PIXELS)
    for scaled in (False, True):
      crops.random_resized_crop(
        data, draws, out, scaled_decoding=scaled, max_pixels=_MAX_PIXELS
      )
  except images.DecodeError as error:
    raise errors.UserError(str(error)) from error


def _record_seeds() -> list[mutate.Tree]:
  from tests.data import records
  from tests.fuzz import campaign

  with _temporary() as root:
    small = {'train': 4, 'test': 2}
    for make in (records.tfrecord_digits, records.array_record_digits):
      name = 'tf' if make is records.tfrecord_digits else 'ar'
      _shorten(make(root, name), small)
    tree = campaign.read_tree(root)
  return [{k: v for k, v in tree.items() if not k.startswith('made/')}]


def _shorten(folder: pathlib.Path, lengths: dict[str, int]) -> None:
  """Cuts a prepared data set to a few examples per split."""
  from array_record.python import array_record_data_source, array_record_module

  from tests.data import records

  path = folder / 'dataset_info.json'
  info = json.loads(path.read_text())
  for split in info['splits']:
    count = lengths[split['name']]
    stored = sorted(folder.glob(f'*-{split["name"]}.*'))
    if info['fileFormat'] == 'tfrecord':
      first = [_first_records(file, count) for file in stored]
      for file, data in zip(stored, first, strict=True):
        records.write_tfrecords(file, data)
      split['shardLengths'] = [str(count)] * len(stored)
      continue
    source = array_record_data_source.ArrayRecordDataSource(str(stored[0]))
    data = [source[index] for index in range(count)]
    writer = array_record_module.ArrayRecordWriter(
      str(stored[0]), 'group_size:1'
    )
    for record in data:
      writer.write(record)
    writer.close()
    split['shardLengths'] = [str(count)]
  path.write_text(json.dumps(info))


def _first_records(path: pathlib.Path, count: int) -> list[bytes]:
  from nfnets.data import tfrecord

  records = tfrecord.RecordFiles([path])
  return [records[index] for index in range(count)]


def _read_records(folder: pathlib.Path) -> None:
  from nfnets.data import source as source_lib
  from nfnets.data import sources, unreadable

  for name in ('tf', 'ar'):
    for split in ('train', 'test'):
      source = sources.load_source(name, split, str(folder))
      for index in range(len(source)):
        try:
          unreadable.read(source, index, _decode)
        except source_lib.UnreadableError as error:
          logging.info('%s', error)


def _decode(data: bytes | np.ndarray) -> None:
  from nfnets.data import images

  images.decode(data, max_pixels=_MAX_PIXELS)


def _temporary():
  import contextlib
  import tempfile

  @contextlib.contextmanager
  def folder():
    with tempfile.TemporaryDirectory() as root:
      yield pathlib.Path(root)

  return folder()


_INDEX = {'a': np.arange(40), 'b': np.array([b'x', b'yz'])}


def _index_seeds() -> list[mutate.Tree]:
  from nfnets.data import cache

  with _temporary() as root:
    cache.save_arrays(root / 'x.npz', _INDEX)
    return [{'x.npz': (root / 'x.npz').read_bytes()}]


def _read_index(folder: pathlib.Path) -> None:
  from nfnets.data import cache

  arrays = cache.load_arrays(folder / 'x.npz')
  if arrays is None:
    raise errors.UserError('rebuilt')
  assert arrays.keys() == _INDEX.keys()
  for key, value in _INDEX.items():
    np.testing.assert_array_equal(arrays[key], value)


def _metrics_seeds() -> list[mutate.Tree]:
  lines = [
    {'step': step, 'x': None, 'train/loss': 0.5, 'images_per_second': 9.0}
    for step in range(1, 8)
  ]
  for step in (3, 6):
    found = {'eval/top1': 0.5, 'eval/loss': 0.75, 'eval/ema_top1': 0.25}
    lines.insert(step, {'step': step, **found})
  text = ''.join(json.dumps(line) + '\n' for line in lines)
  return [{'metrics.jsonl': text.encode()}]


def _read_metrics(folder: pathlib.Path) -> None:
  from nfnets.studies import trials
  from nfnets.training import metrics_file

  path = folder / 'metrics.jsonl'
  before = path.read_bytes()
  file = metrics_file.MetricsFile(path, 5)
  file.write(6, {'train/loss': 1.0, 'images_per_second': 9.0})
  file.close()
  lines = [json.loads(line) for line in path.read_bytes().splitlines()]
  assert [x['step'] for x in lines if x['step'] > 5] == [6]
  damaged = folder / 'metrics.jsonl.damaged'
  assert not damaged.exists() or damaged.read_bytes() == before
  trials.read_numbers(path, 32)


def _study_runs():
  from nfnets.studies import agc_figure, results

  return [
    results.Run(
      {'method': method, 'batch': 64, 'rate': 0.1, 'seed': 0}, {'seed': 5}
    )
    for method in agc_figure.METHODS
  ]


def _result_seeds() -> list[mutate.Tree]:
  from nfnets.studies import results

  numbers = {'step': 12.0, 'top1': 0.5, 'clipped': 0.25, 'clipped/3x3': 0.75}
  with _temporary() as root:
    for index, run in enumerate(_study_runs()):
      settings = results.changed_settings(run)
      found = results.Result(run.labels, numbers, index == 1, 2.5, settings)
      results.append(root / results.FILE, run.name, found)
    return [{results.FILE: (root / results.FILE).read_bytes()}]


def _read_results(folder: pathlib.Path) -> None:
  from nfnets.studies import agc_figure, results, runner

  path, runs = folder / results.FILE, _study_runs()
  found = results.read(path)
  results.check_same(runs, found, path)
  ended = [found[run.name] for run in runs if run.name in found]
  assert agc_figure.describe(ended)
  assert runner._text(runs[0], 0, 4, [x.seconds for x in ended])


def _setting_seeds() -> list[mutate.Tree]:
  from nfnets.experiment import config as config_lib

  text = json.dumps(config_lib.flatten(_config()), indent=2).encode()
  arguments = (
    b'--config.train.batch_size=64\n--config.model.depth=1,1,1,1\n'
    b'--config.model.width=0.5\n--config.data.area_range=0.1,1.0\n'
    b'--config.dataset=folder:/pictures\n--config.data.strict=true\n'
    b'--config.train.dtype=float32\n--config.optimizer.clipping=0.01\n'
  )
  return [{'config.json': text, 'arguments': arguments, 'metrics.jsonl': b''}]


@functools.cache
def _config():
  from nfnets.experiment import command_line

  file = ROOT / 'experiments' / 'digits.py'
  return command_line.parse_config([f'--config={file}'])[0]


def _read_settings(folder: pathlib.Path) -> None:
  from nfnets.experiment import build, command_line, resume

  before = (folder / 'config.json').read_bytes()
  try:
    with resume.claimed(_config(), folder, 1437):
      pass
  except errors.UserError:
    assert (folder / 'config.json').read_bytes() == before
  text = os.fsdecode((folder / 'arguments').read_bytes())
  arguments = [line for line in text.split('\n') if '\0' not in line]
  file = ROOT / 'experiments' / 'digits.py'
  config, _ = command_line.parse_config(
    [f'--config={file}', *filter(None, arguments)]
  )
  build.make_model(config, 10)
  length = build.lengths(config, 1437)
  build.check_batch_size(config, 1)
  build.make_schedule(config, length)(0)


IMAGES = judge.Reader(_image_seeds, _read_image)
RECORDS = judge.Reader(_record_seeds, _read_records)
INDEXES = judge.Reader(_index_seeds, _read_index)
METRICS = judge.Reader(_metrics_seeds, _read_metrics)
RESULTS = judge.Reader(_result_seeds, _read_results)
SETTINGS = judge.Reader(
  _setting_seeds, _read_settings, lambda _: ['config.json', 'arguments']
)
