"""The readers of weights and checkpoints: a tiny network in every layout."""

import functools
import json
import os
import pathlib
import pickle
import tempfile

import numpy as np
from safetensors import numpy as safetensors_numpy

from nfnets import errors, models, weights
from nfnets.experiment import config as config_lib
from nfnets.inference import runs
from nfnets.training import checkpoint, checkpoint_files, workdir
from nfnets.training import state as state_lib
from nfnets.weights import sources, tree
from tests.fuzz import campaign, judge, mutate

_NAME = 'nf_resnet50'
_OPTIONS = {
  'width': 0.03125,
  'depth': (1, 1, 1, 1),
  'num_classes': 3,
  'test_size': 32,
}


@functools.cache
def _params() -> dict[str, dict[str, np.ndarray]]:
  config = models.create_model(_NAME, **_OPTIONS).config
  rng = np.random.default_rng(0)
  return tree.unflatten(
    {
      name: rng.normal(size=shape.shape).astype(np.float32)
      for name, shape in tree.expected(config).params.items()
    }
  )


class _Hostile:
  """Runs a program when the real unpickler reads it."""

  def __reduce__(self):
    return os.system, ('true',)


def _weights_seeds() -> list[mutate.Tree]:
  files = []
  with tempfile.TemporaryDirectory() as root:
    path = pathlib.Path(root, 'file')
    for layout in ('nfnets', 'deepmind'):
      weights.save(
        path, _params(), {}, _NAME, layout, class_names='abc', **_OPTIONS
      )
      files += [path.read_bytes()] * 4  # More often than the small ones.
    safetensors_numpy.save_file({'a': np.ones(3, 'f4')}, path)
    files += [path.read_bytes()] * 2
    np.savez(path, a=np.ones(3))
    files.append(path.with_suffix('.npz').read_bytes())
  small = {'m': {'w': np.arange(6, dtype='f4').reshape(2, 3), 'b': np.ones(2)}}
  for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
    files.append(pickle.dumps(small, protocol))
    files.append(pickle.dumps((small, {'s': {'x': np.int8(1)}}), protocol))
    files.append(pickle.dumps({'m': {'w': _Hostile()}}, protocol))
  return [{'weights': data} for data in files]


def _read_weights(folder: pathlib.Path) -> None:
  source = sources.read(folder / 'weights')
  if not (source.name or tree.find_models(source.params, source.layout)):
    return
  loaded = weights.load_model(folder / 'weights')
  for name, array in tree.flatten(loaded.params).items():
    assert array.dtype == np.float32, name


def _snapshot_seeds() -> list[mutate.Tree]:
  config = {
    'architecture': 'nf_resnet50',
    'num_classes': 3,
    'label_names': ['a', 'b', 'c'],
    'pretrained_cfg': {'label_names': ['a', 'b', 'c'], 'mean': [0.5] * 3},
  }
  return [
    {
      'model.safetensors': safetensors_numpy.save({'w': np.ones(3, 'f4')}),
      'config.json': json.dumps(config).encode(),
    }
  ]


def _read_snapshot(folder: pathlib.Path) -> None:
  source = sources.read(folder)
  assert all(isinstance(name, str) for name in source.class_names)


def _state(step: int) -> state_lib.TrainState:
  params = {
    module: {name: array + step for name, array in arrays.items()}
    for module, arrays in _params().items()
  }
  return state_lib.TrainState(params, {}, (), {}, {}, np.int32(step))


def _checkpoint_seeds() -> list[mutate.Tree]:
  settings = config_lib.flatten(config_lib.base())
  settings |= {'dataset': 'folder:/none', 'model.name': _NAME}
  settings |= {f'model.{key}': _OPTIONS[key] for key in ('width', 'depth')}
  with tempfile.TemporaryDirectory() as root:
    directory = pathlib.Path(root, workdir.CHECKPOINTS)
    saver = checkpoint.Checkpointer(directory, config=settings)
    for step in (2, 4):
      saver.save(step, _state(step), {'eval/top1': 0.5, 'eval/loss': 1.0})
    saver.close()
    return [campaign.read_tree(pathlib.Path(root))]


def _newest(tree: mutate.Tree) -> list[str]:
  """Returns the files of checkpoint 4: the other one must survive."""
  return [path for path in tree if path.startswith('checkpoints/4/')]


def _read_checkpoints(folder: pathlib.Path) -> None:
  directory = folder / workdir.CHECKPOINTS
  refusal = None
  try:
    runs.load(folder)
  except errors.UserError as error:
    refusal = error
  saver = checkpoint.Checkpointer(directory)
  # Never refuses: a damaged checkpoint 4 is moved aside, and 2 is intact.
  restored = _without_refusal(lambda: saver.restore_latest(_state(0)))
  assert restored is not None and restored.step in (2, 4)
  _assert_equal(restored.state, _state(restored.step))
  # Nothing that is left on disk keeps the next checkpoint from being saved.
  _without_refusal(lambda: _save(saver, _state(9)))
  assert checkpoint_files.steps(directory)[0] == 9
  kept = [path.name.partition('.')[0] for path in directory.iterdir()]
  assert {'2', '4'} <= set(kept), 'nothing is lost'
  if refusal is not None:
    raise refusal


def _save(saver: checkpoint.Checkpointer, state: state_lib.TrainState) -> None:
  saver.save(9, state)
  saver.close()


def _without_refusal(call):
  try:
    return call()
  except errors.UserError as error:
    raise AssertionError(str(error)) from error


def _assert_equal(found, expected) -> None:
  for module, arrays in expected.params.items():
    for name, array in arrays.items():
      np.testing.assert_array_equal(found.params[module][name], array)
  assert found.step == expected.step


WEIGHTS = judge.Reader(_weights_seeds, _read_weights)
SNAPSHOTS = judge.Reader(_snapshot_seeds, _read_snapshot)
CHECKPOINTS = judge.Reader(
  _checkpoint_seeds, _read_checkpoints, _newest, memory=2**29
)
