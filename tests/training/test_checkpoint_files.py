"""Directories of checkpoints without Orbax: arrays come from a dict."""

import json
import shutil

import numpy as np
import pytest

from nfnets import errors
from nfnets.training import checkpoint_files, manifest

ARRAYS = {
  'params/NFNet/~/linear/w': np.ones((2, 3), np.float32),
  'params/NFNet/~/linear/b': np.zeros(3, np.float32),
  'ema_params/NFNet/~/linear/w': np.full((2, 3), 2, np.float32),
  'ema_params/NFNet/~/linear/b': np.ones(3, np.float32),
}
TARGET = {
  root: {'NFNet/~/linear': {'w': np.ones((2, 3), 'f4'), 'b': np.ones(3, 'f4')}}
  for root in ('params', 'ema_params')
}


def write(directory, step, config=None, dataset=None):
  """Writes everything but the arrays of a checkpoint."""
  path = directory / str(step)
  for folder in ('manifest', 'metrics'):
    (path / folder).mkdir(parents=True)
  made = manifest.make(
    ARRAYS, step=step, metrics={'a': 0.5}, config=config, dataset=dataset
  )
  (path / 'manifest' / 'metadata').write_text(json.dumps(made))
  (path / 'metrics' / 'metrics').write_text('{"a": 0.5}')
  (path / '_CHECKPOINT_METADATA').write_text('{}')
  return path


def read_arrays(path, leaves):
  if (path / 'damaged').exists():
    raise manifest.DamagedError('damaged')
  return {name: ARRAYS[name] for name in leaves}


def check_orbax(path):
  if (path / 'foreign').exists():
    raise TypeError('not\nmine')


def newest(directory, target=TARGET, dataset=None):
  return checkpoint_files.newest_intact(
    directory, target, dataset, read_arrays, check_orbax
  )


def test_steps_are_the_numbered_directories(tmp_path):
  for name in ('3', '12', '7.damaged', 'deleted', '007', '٣', '-1', '9_0'):
    (tmp_path / name).mkdir()
  (tmp_path / '9').write_text('')
  assert checkpoint_files.steps(tmp_path) == [12, 3]
  assert checkpoint_files.steps(tmp_path / 'missing') == []


def test_opening_removes_only_leftovers(tmp_path):
  directory = tmp_path / 'checkpoints'
  for name in ('3', '4.orbax-checkpoint-tmp', 'deleted/2'):
    (directory / name).mkdir(parents=True)
  checkpoint_files.open_directory(directory)
  assert [path.name for path in directory.iterdir()] == ['3']


def test_the_newest_intact_checkpoint_is_found(tmp_path):
  assert newest(tmp_path) is None
  for step in (2, 4, 6):
    write(tmp_path, step)
  (tmp_path / '6' / 'damaged').write_text('')
  found = newest(tmp_path)
  assert (found.step, found.metrics) == (4, {'a': 0.5})
  assert found.arrays == ARRAYS
  assert checkpoint_files.steps(tmp_path) == [4, 2]
  assert (tmp_path / '6.damaged' / 'damaged').exists()


def test_only_damaged_checkpoints_are_an_error_and_stay(tmp_path):
  (write(tmp_path, 6) / 'damaged').write_text('')
  with pytest.raises(errors.UserError, match=r'is intact \(6: damaged\)'):
    newest(tmp_path)
  assert checkpoint_files.steps(tmp_path) == [6]


@pytest.mark.parametrize(
  'name', ['manifest/metadata', 'metrics/metrics', '_CHECKPOINT_METADATA']
)
def test_every_file_is_needed(tmp_path, name):
  path = write(tmp_path, 6)
  assert checkpoint_files.read_manifest(path, check_orbax)['step'] == 6
  (path / name).unlink()
  with pytest.raises(manifest.DamagedError, match=f'{name} is missing'):
    checkpoint_files.read_manifest(path, check_orbax)


@pytest.mark.parametrize(
  'name', ['manifest/metadata', 'metrics/metrics', '_CHECKPOINT_METADATA']
)
@pytest.mark.parametrize(
  'content', [b'', b'{', b'[]', b'\xff', b'[' * 10**5, b'{"a": 0, "a": 0}']
)
def test_the_one_before_is_used_if_a_file_is_not_ours(tmp_path, name, content):
  write(tmp_path, 4)
  (write(tmp_path, 6) / name).write_bytes(content)
  if (name, content) == ('_CHECKPOINT_METADATA', b'[]'):
    (tmp_path / '6' / 'foreign').touch()  # as Orbax would find out
  assert newest(tmp_path).step == 4
  assert (tmp_path / '6.damaged' / name).read_bytes() == content


@pytest.mark.parametrize(
  'metrics', ['{"a": "x"}', '{"a": null}', '{"a": 1.5}', '{}', 'null', '3']
)
def test_metrics_are_those_of_the_manifest(tmp_path, metrics):
  (write(tmp_path, 6) / 'metrics' / 'metrics').write_text(metrics)
  with pytest.raises(errors.UserError, match='is not what was written'):
    newest(tmp_path)


@pytest.mark.parametrize('name', ['006', '\u0666'])
def test_a_number_written_otherwise_is_moved_aside(tmp_path, name, caplog):
  write(tmp_path, 4)
  write(tmp_path, 6).rename(tmp_path / name)
  assert newest(tmp_path).step == 4
  assert (tmp_path / f'{name}.damaged' / 'metrics').is_dir()
  assert f'(now {name}.damaged): its directory must be named 6' in caplog.text


def test_a_renamed_checkpoint_is_not_that_of_its_number(tmp_path):
  write(tmp_path, 4)
  shutil.copytree(write(tmp_path, 6), tmp_path / '9')
  assert newest(tmp_path).step == 6
  assert checkpoint_files.steps(tmp_path) == [6, 4]


def test_long_names_are_moved_aside(tmp_path):
  write(tmp_path, 4)
  (tmp_path / ('1' * 255)).mkdir()
  assert newest(tmp_path).step == 4
  assert checkpoint_files.steps(tmp_path) == [4]


def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path):
  write(tmp_path, 6)
  with pytest.raises(errors.UserError) as caught:
    newest(tmp_path, {'params': TARGET['params']})
  text = str(caught.value)
  assert 'ema_params/NFNet/~/linear/b is float32[3] there and missing' in text
  assert 'and 1 more: use the config it was trained with' in text


@pytest.mark.parametrize('ema', [True, False])
def test_weights_are_read_alone(tmp_path, ema):
  path = write(tmp_path, 6, config={'model.name': 'nfnet_f0'})
  asked = []

  def read(path, leaves):
    asked.extend(leaves)
    return read_arrays(path, leaves)

  weights = checkpoint_files.read_weights(path, ema, read, check_orbax)
  root = 'ema_params' if ema else 'params'
  assert sorted(asked) == [f'{root}/NFNet/~/linear/{x}' for x in 'bw']
  np.testing.assert_array_equal(
    weights.params['NFNet/~/linear']['w'], 2 if ema else 1
  )
  assert weights.state == {} and weights.step == 6
  assert weights.config == {'model.name': 'nfnet_f0'}


def test_scores_are_comparable():
  score = checkpoint_files.score
  assert score({'eval/top1': 0.5, 'eval/loss': 1.0}) == 0.5
  assert score({}) == score({'eval/top1': float('nan')}) == -np.inf


def test_a_write_error_is_one_line_with_the_last_good_checkpoint(tmp_path):
  error = OSError('no space\n  left')
  text = str(checkpoint_files.write_error(tmp_path, 3, error))
  assert f'checkpoint 3 cannot be written to {tmp_path}: no space left' in text
  assert 'Last good checkpoint: none' in text
  for step in (1, 2, 3):
    (tmp_path / str(step)).mkdir()
  text = str(checkpoint_files.write_error(tmp_path, 3, error))
  assert 'Last good checkpoint: step 2' in text and '\n' not in text


def dataset(names=('cat', 'dog'), train_images=40, eval_images=10, name='x'):
  return {
    'name': name,
    'class_names': list(names),
    'train_images': train_images,
    'eval_images': eval_images,
  }


@pytest.mark.parametrize(
  'now, shown',
  [
    (dataset(('dog', 'zebra')), 'removed classes: cat; new classes: zebra'),
    (dataset(('cat',)), 'removed classes: dog)'),
    (dataset(('ape', 'cat', 'dog')), '(new classes: ape)'),
    (dataset(('dog', 'cat')), 'the classes have another order'),
    (dataset([*'abcdefgh', 'cat', 'dog']), 'new classes: a, b, c, d, e, ...)'),
    (dataset(train_images=41), 'training images: 40 -> 41'),
  ],
)
def test_other_classes_and_images_are_refused_before_the_arrays(
  tmp_path, now, shown
):
  write(tmp_path, 6, dataset=dataset())
  # The target does not fit either, but says nothing about classes.
  with pytest.raises(errors.UserError) as caught:
    newest(tmp_path, {}, now)
  assert shown in str(caught.value) and f'{tmp_path}/6' in str(caught.value)
  assert checkpoint_files.steps(tmp_path) == [6]


def test_moved_data_is_accepted_and_other_held_out_images_are_reported(
  tmp_path, caplog
):
  write(tmp_path, 6, dataset=dataset())
  assert newest(tmp_path, dataset=dataset(name='y')).step == 6
  assert not caplog.records
  assert newest(tmp_path, dataset=dataset(eval_images=11)).step == 6
  (record,) = caplog.records
  assert 'held-out images: 10 -> 11' in record.getMessage()


def test_an_old_checkpoint_accepts_the_data_set_of_its_name(tmp_path):
  write(tmp_path, 6, config={'dataset': 'x'})
  assert newest(tmp_path, dataset=dataset()).step == 6
  with pytest.raises(errors.UserError, match='trained on x, .* unknown'):
    newest(tmp_path, dataset=dataset(name='y'))
