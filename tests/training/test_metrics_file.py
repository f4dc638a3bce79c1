import json
import math

import pytest

from nfnets.training import metrics_file


def lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def test_values_that_are_not_finite_become_null(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  file = metrics_file.MetricsFile(path, 0)
  file.write(1, {'train/loss': 0.5, 'train/top1': float('nan')})
  file.write(2, {'train/loss': float('-inf')})
  file.close()
  assert lines(path) == [
    {'step': 1, 'train/loss': 0.5, 'train/top1': None},
    {'step': 2, 'train/loss': None},
  ]


def test_a_line_is_written_immediately(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  file = metrics_file.MetricsFile(path, 0)
  file.write(1, {'a': 1.0})
  assert lines(path) == [{'step': 1, 'a': 1.0}]
  file.close()


def test_resuming_drops_the_lines_of_repeated_steps(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  text = ''.join(f'{{"step": {step}, "a": 0}}\n' for step in (1, 2, 2, 3, 4))
  path.write_text(text + '{"step": 2, "a')  # cut short by a kill
  file = metrics_file.MetricsFile(path, 2)
  file.write(3, {'a': 1})
  file.close()
  assert [line['step'] for line in lines(path)] == [1, 2, 2, 3]
  assert path.read_text().startswith(text[: text.index('{"step": 3')])


def test_a_file_without_such_lines_is_unchanged(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_text('{"step": 1, "a": 0}\n')
  inode = path.stat().st_ino
  metrics_file.MetricsFile(path, 1).close()
  assert path.stat().st_ino == inode
  assert path.read_text() == '{"step": 1, "a": 0}\n'


@pytest.mark.parametrize(
  'damaged',
  [
    b'garbage\n',
    b'\xff\x00\n',
    b'[1]\n',
    b'{"a": 1}\n',
    b'{"step": "2"}\n',
    b'{"step": 2, "step": 2}\n',
    b'[' * 10**5 + b'\n',
    b'{"step": ' + b'1' * 5000 + b'}\n',
    bytes(40),
  ],
  ids=range(9),
)
def test_damaged_lines_are_kept_in_a_copy(tmp_path, damaged, caplog):
  path = tmp_path / 'metrics.jsonl'
  lines = [b'{"step": 1, "a": 0}\n', damaged, b'{"step": 3, "a": 0}\n']
  if damaged == bytes(40):  # a tail of zeros, after a crash of the machine
    lines = [lines[0], lines[2], damaged]
  original = b''.join(lines)
  path.write_bytes(original)
  metrics_file.MetricsFile(path, 2).close()
  assert path.read_bytes() == b'{"step": 1, "a": 0}\n'
  assert (tmp_path / 'metrics.jsonl.damaged').read_bytes() == original
  assert 'is damaged and was dropped' in caplog.text


def test_evaluations_are_read(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  assert metrics_file.read_evaluations(path, 9) == []
  path.write_bytes(
    b'{"step": 1, "train/loss": 2.5}\n'
    b'{"step": 2, "eval/top1": 0.5, "eval/loss": null}\n'
    b'garbage\n'
    b'{"step": 4, "test/top1": "x"}\n'
    b'{"step": 6, "eval/top1": 0.75}\n'
    b'{"step": 6, "ev'
  )
  two, four, six = metrics_file.read_evaluations(path, 6)
  assert (two['step'], two['eval/top1'], six) == (
    *(2, 0.5),
    {'step': 6, 'eval/top1': 0.75},
  )
  assert math.isnan(two['eval/loss']) and math.isnan(four['test/top1'])
  assert metrics_file.read_evaluations(path, 5) == [two, four]


def test_a_complete_last_line_without_its_end_is_kept(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_bytes(b'{"step": 1, "a": 0}')
  metrics_file.MetricsFile(path, 1).close()
  assert path.read_bytes() == b'{"step": 1, "a": 0}\n'
  path.write_bytes(b'{"step": 1, "a": 0}\n{"st')
  metrics_file.MetricsFile(path, 1).close()
  assert path.read_bytes() == b'{"step": 1, "a": 0}\n'
  assert [p.name for p in tmp_path.iterdir()] == ['metrics.jsonl']
