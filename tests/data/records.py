"""Writes a TFDS data set in both record formats, without TensorFlow."""

import json
import pathlib
import shutil
import struct

import numpy as np
from array_record.python import array_record_data_source

from nfnets.data import tfrecord
from nfnets.data.digits import preparation


def write_tfrecords(path, records):
  """Writes records as a TFRecord file; returns their offsets, in bytes."""
  offsets = []
  with open(path, 'wb') as file:
    for record in records:
      offsets.append(file.tell())
      length = struct.pack('<Q', len(record))
      file.write(length + struct.pack('<I', tfrecord.masked_crc(length)))
      file.write(record + struct.pack('<I', tfrecord.masked_crc(record)))
  return offsets


def array_record_digits(data_dir, name='digits'):
  """Prepares the embedded digits as usual, in a folder of the test."""
  prepared = preparation.prepare(pathlib.Path(data_dir) / 'made')
  target = pathlib.Path(data_dir) / name / '1.0.0'
  shutil.copytree(prepared, target)
  return target


def tfrecord_digits(data_dir, name='digits_tf', shards=3):
  """Prepares the same data set as TFRecord files."""
  prepared = preparation.prepare(pathlib.Path(data_dir) / 'made')
  target = pathlib.Path(data_dir) / name / '1.0.0'
  target.mkdir(parents=True)
  info = json.loads((prepared / 'dataset_info.json').read_text())
  info |= {'fileFormat': 'tfrecord', 'name': name}
  for split in info['splits']:
    (stored,) = prepared.glob(f'*-{split["name"]}.array_record*')
    records = array_record_data_source.ArrayRecordDataSource([str(stored)])
    parts = np.array_split(np.arange(len(records)), shards)
    split['shardLengths'] = [str(len(part)) for part in parts]
    for number, part in enumerate(parts):
      shard = f'{number:05d}-of-{shards:05d}'
      write_tfrecords(
        target / f'{name}-{split["name"]}.tfrecord-{shard}',
        [records[int(i)] for i in part],
      )
  (target / 'dataset_info.json').write_text(json.dumps(info))
  for other in ('features.json', 'label.labels.txt'):
    shutil.copy(prepared / other, target)
  return target
