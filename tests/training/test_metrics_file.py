import json

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
