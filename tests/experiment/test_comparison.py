import csv
import pathlib

from nfnets.experiment import comparison
from nfnets.report import numbers
from tests.report import made


def test_folders_are_named_after_the_files_and_differ():
  run = pathlib.Path('run')
  files = ['a/net.npz', 'b/net.npz', 'timm/f0.dm', '..', 'x y[1].npz']
  names = ['net.npz', 'net.npz-2', 'f0.dm', 'weights', 'x_y_1_.npz']
  assert comparison.folders(run, files) == [run / 'eval' / n for n in names]


def row(name, classes):
  summary = numbers.summarize(made.outcomes(classes))
  return comparison.Row(name, summary, 1_234_567, 2.5, pathlib.Path('p.html'))


def test_the_table_is_printed_and_written(tmp_path, capsys):
  rows = [row('a[/].npz', 5), row('b\x1b.npz', 7)]
  comparison.show(rows, tmp_path)
  out = capsys.readouterr().out
  assert 'a[/].npz' in out and '\x1b' not in out
  for entry in rows:
    assert f'{entry.summary.top1.value:.2%}' in out
    assert f'{entry.summary.calibration.error:.2%}' in out
  assert '1,234,567' in out and 'report: p.html' in out
  path = tmp_path / 'eval' / 'comparison.csv'
  assert f'table: {path}' in out
  with open(path, newline='') as file:
    first, second = csv.DictReader(file)
  assert first['weights'] == 'a[/].npz' and first['top5'] == ''
  assert float(second['top5']) == rows[1].summary.top5.value
  assert float(second['macro_f1']) == rows[1].summary.f1
  assert (first['parameters'], first['seconds']) == ('1234567', '2.5')


def test_a_table_that_cannot_be_written_is_a_warning(tmp_path, caplog):
  (tmp_path / 'eval').touch()
  comparison.show([row('a', 5)], tmp_path)
  assert 'comparison.csv cannot be written' in caplog.text
