"""Files of a run, and weights, that are valid but not what was written."""

import shutil
import struct

import numpy as np
import pytest

from nfnets.weights import files
from tests.faults import runs
from tests.weights import tiny

pytestmark = pytest.mark.slow

DEEP = '[' * 10**5


@pytest.mark.parametrize(
  'name, content',
  [
    ('metrics/metrics', '{"eval/top1": "x"}'),
    ('_CHECKPOINT_METADATA', DEEP),
  ],
)
def test_a_checkpoint_of_other_types(copy, whole, name, content):
  folder = copy / 'checkpoints'
  (folder / '12' / name).write_text(content)
  shutil.copytree(folder / '8', folder / '007')
  shutil.copytree(folder / '8', folder / '16')
  end = runs.succeed(runs.run(*runs.TRAIN, f'--workdir={copy}'))
  assert 'resuming from step 8' in end.out
  assert 'Traceback' not in end.err
  runs.assert_same_run(copy, whole)
  assert (folder / '12.damaged' / name).read_text() == content
  assert (folder / '007.damaged').is_dir() and (folder / '16.damaged').is_dir()


def test_metrics_of_another_kind(copy, whole):
  shutil.rmtree(copy / 'checkpoints' / '12')
  path = copy / 'metrics.jsonl'
  original = f'{DEEP}\n[1]\n{{"step": "x"}}\n{path.read_text()}'
  path.write_text(original)
  end = runs.succeed(runs.run(*runs.TRAIN, f'--workdir={copy}'))
  assert 'line 1 is damaged and was dropped' in end.err
  runs.assert_same_run(copy, whole)
  assert (copy / 'metrics.jsonl.damaged').read_text() == original


@pytest.mark.parametrize('content', ['[1]', 'null', DEEP, '{"seed": {}}'])
def test_settings_of_another_kind(copy, whole, content):
  path = copy / 'config.json'
  path.write_text(content)
  end = runs.run(*runs.TRAIN, f'--workdir={copy}')
  runs.assert_one_line(end, 'seed: {}' if 'seed' in content else 'config.json')
  assert path.read_text() == content
  assert runs.state(copy) == runs.state(whole)


@pytest.mark.parametrize('option', ['"x"', '1e9', 'NaN', DEEP])
def test_options_of_weights_that_mean_nothing(tmp_path, option):
  path = tmp_path / 'file'
  tiny.save(path)
  contents = files.read_safetensors(path)
  changed = {**contents.metadata, 'options': f'{{"width": {option}}}'}
  files.write_safetensors(path, contents.tensors, changed)
  end = runs.run('nfnets.convert', str(path), str(tmp_path / 'x'), '--to=timm')
  expected = 'nested deeper' if option == DEEP else 'width is '
  runs.assert_one_line(end, str(path), 'its metadata cannot be used', expected)


def test_a_damaged_index_is_built_again(tmp_path):
  pictures = tmp_path / 'pictures'
  for number in range(4):
    folder = pictures / f'class {number % 2}'
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f'{number}.bmp').write_bytes(_bitmap(number))
  command = ('nfnets.data', f'folder:{pictures}')
  environment = {'env': {'XDG_CACHE_HOME': str(tmp_path / 'cache')}}
  whole = runs.succeed(runs.run(*command, **environment))
  entries = list((tmp_path / 'cache').rglob('*.npz'))
  half = entries[0].read_bytes()[:80]
  for content in (b'', b'PK\x03\x04', DEEP.encode(), half):
    for path in entries:
      path.write_bytes(content)
    assert runs.run(*command, **environment) == whole
  for path in entries:
    np.savez(path, paths=np.zeros(3), times=np.array('x'))
  assert runs.run(*command, **environment) == whole


def _bitmap(number):
  header = struct.pack('<IiiHHIIiiII', 40, 2, 2, 1, 24, 0, 16, 0, 0, 0, 0)
  start = b'BM' + struct.pack('<IHHI', 70, 0, 0, 54)
  return start + header + bytes([number]) * 16
