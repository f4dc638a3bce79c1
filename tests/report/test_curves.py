import math

from nfnets.report import curves


def test_curves_of_a_file(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  path.write_text(
    '{"step": 1, "train/loss": 2.5}\n'
    '{"step": 2, "train/loss": null, "eval/top1": 1}\n'
    'damaged\n[1]\n{"step": 2}\n{"train/loss": 1}\n'
    '{"step": "2", "train/loss": 1}\n{"step": 2, "train/loss": "x"}\n'
    '{"step": 3, "train/loss": 0.5}\n'
  )
  found = curves.read(path)
  assert found['eval/top1'] == [(2, 1.0)]
  (_, first), (_, second), last = found['train/loss']
  assert first == 2.5 and math.isnan(second) and last == (3, 0.5)
  assert len(curves.read(path, 2)['train/loss']) == 2


def test_a_missing_file_has_no_curves(tmp_path):
  assert curves.read(tmp_path / 'none') == {}
