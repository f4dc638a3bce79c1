"""What a run measures and prints after its last step."""

import os
import shlex
import sys

import pytest

from nfnets.experiment import ending, splits
from nfnets.training import loop
from tests.experiment import tiny


@pytest.mark.parametrize(
  'status, metrics, first',
  [
    (143, {}, ['stopped at step 9: rerun the command to resume']),
    (0, {'eval/top1': 0.75}, ['held-out accuracy: 75.00%']),
    (
      0,
      {'eval/top1': 0.75, 'eval/ema_top1': 0.5, 'test/top1': 0.25},
      [
        'held-out accuracy: 75.00%',
        'held-out accuracy of the averaged weights: 50.00%',
        'test accuracy: 25.00%',
      ],
    ),
  ],
)
def test_accuracies_and_paths(tmp_path, status, metrics, first):
  test = {k: x for k, x in metrics.items() if k.startswith('test/')}
  own = {k: x for k, x in metrics.items() if k not in test}
  outcome = loop.Outcome(None, 9, own, status)
  assert ending.describe(outcome, tmp_path, test).splitlines() == [
    *first,
    f'checkpoint:  {tmp_path}/checkpoints/9',
    f'metrics:     {tmp_path}/metrics.jsonl',
    f'TensorBoard: {tmp_path}/tensorboard',
  ]


@pytest.mark.parametrize(
  'has_test, status, history, expected',
  [
    (False, 0, [], {}),
    (True, 143, [], {}),
    # A finished run is not evaluated again.
    (
      True,
      0,
      [{'step': 9, 'test/top1': 0.5, 'test/count': 4}],
      {'test/top1': 0.5, 'test/count': 4},
    ),
  ],
)
def test_the_test_split_is_measured_once(has_test, status, history, expected):
  data = splits.Splits([], [], [] if has_test else None)
  outcome = loop.Outcome(None, 9, {}, status)
  metrics = ending.measure_test(None, data, outcome, None, history)
  assert metrics == expected


@pytest.fixture
def python(monkeypatch):
  monkeypatch.setattr(ending.shutil, 'which', lambda name: None)
  monkeypatch.delenv('PYTHONPATH', raising=False)
  return sys.executable


def commands(config, workdir):
  """Returns the arguments of each command, as a shell splits them."""
  head, *lines = ending.next_commands(config, workdir).splitlines()
  assert head == 'next:' and len(lines) == 3
  return [shlex.split(line) for line in lines]


def test_the_next_commands_have_the_paths(python, tmp_path):
  config = tiny.make_config(32)
  workdir = tmp_path / "my 'run'"
  predict, evaluate, convert = commands(config, workdir)
  assert predict == [
    *(python, '-m', 'nfnets.predict', f'--weights={workdir}', 'PICTURES')
  ]
  assert evaluate == [
    *(python, '-m', 'nfnets.experiment', f'--workdir={workdir}', '--mode=eval')
  ]
  assert convert == [
    *(python, '-m', 'nfnets.convert', str(workdir)),
    *("my 'run'.safetensors", '--to=nfnets'),
  ]
  config.dataset = f'folder:{tmp_path}/my pictures'
  config.data.held_out = 0.1
  predict, evaluate, _ = commands(config, workdir)
  assert predict[-1] == f'{tmp_path}/my pictures'
  assert evaluate[-1] == '--config.data.eval_split=test'


def test_the_next_commands_start_the_same_python(python, tmp_path, monkeypatch):
  root = str(ending._PACKAGE_PARENT)
  config = tiny.make_config(32)
  monkeypatch.chdir(tmp_path)
  assert commands(config, tmp_path)[0][0] == python
  # As run.sh does.
  monkeypatch.setenv('PYTHONPATH', os.pathsep.join([root, '/other']))
  assert commands(config, tmp_path)[0][:2] == [f'PYTHONPATH={root}', python]
  monkeypatch.chdir(root)
  assert commands(config, tmp_path)[0][0] == python
  in_path = os.path.join(os.path.dirname(python), 'python')
  monkeypatch.setattr(ending.shutil, 'which', lambda name: in_path)
  assert commands(config, tmp_path)[0][0] == 'python'
