"""The study of fine-tuning: its runs, data, table and figure."""

import pathlib
import subprocess
import sys

import pytest

from nfnets.data import sources
from nfnets.studies import finetune, halves, results
from tests.studies import made

ROOT = pathlib.Path(__file__).parents[2]


def test_each_training_is_before_its_fine_tuning():
  options = made.make_options(
    finetune, '--pretrain=cifar10', '--dataset=tf_flowers', '--seeds=2'
  )
  runs = finetune.plan(options)
  assert len(runs) == len({run.name for run in runs}) == 2 * 4 * 3
  names = [run.name for run in runs]
  for index, run in enumerate(runs):
    trains = run.labels['phase'] == 'training'
    dataset = 'cifar10' if trains else 'tf_flowers'
    assert run.settings['dataset'] == dataset and run.keep == trains
    batch = run.settings['train.batch_size']
    assert batch == 64 * run.settings['train.accumulation']
    if not trains:
      assert run.start in names[:index]
      start = runs[names.index(run.start)]
      for name in ('model.name', 'model.depth', 'seed'):
        assert run.settings[name] == start.settings[name]
  assert {run.settings.get('optimizer.clipping') for run in runs} == {None}


def test_digits_are_divided_by_class(tmp_path):
  folder = tmp_path / 'a' / 'data'
  halves.write(folder)
  halves.write(folder)
  for half, names in ((halves.FIRST, '01234'), (halves.SECOND, '56789')):
    counts = [
      len(sources.load_source(f'folder:{folder / half}', split))
      for split in ('train', 'test')
    ]
    source = sources.load_source(f'folder:{folder / half}', 'train')
    assert ''.join(source.class_names) == names
    assert 700 < counts[0] < 740 and 170 < counts[1] < 190
  assert [x.name for x in folder.parent.iterdir()] == ['data']


def test_another_data_set_needs_one_to_train_on(monkeypatch, capsys):
  monkeypatch.setattr(sys, 'argv', ['program', '--dataset=tf_flowers'])
  with pytest.raises(SystemExit):
    finetune.main()
  assert '--dataset=tf_flowers needs --pretrain' in capsys.readouterr().err


def test_table_and_figure(tmp_path):
  found = []
  for network, top1 in (('batch norm', 0.75), ('normalizer-free', 0.8)):
    at = {'network': network, 'blocks': 4, 'seed': 0}
    found += [
      made.result({'phase': 'training', **at}, 0.5),
      made.result(
        {'phase': 'fine-tuning', **at, 'size': 32}, 0.1, ema_top1=top1
      ),
      made.result({'phase': 'fine-tuning', **at, 'size': 48}, diverged=True),
    ]
  rows = finetune.describe(found).splitlines()
  cells = [[x.strip() for x in row.split('|')[1:-1]] for row in rows]
  assert cells[0][-2:] == ['fine-tuned, 32 px', 'fine-tuned, 48 px']
  assert cells[2:] == [
    ['batch norm', '4', '50.0%', '75.0%', 'diverged'],
    ['normalizer-free', '4', '50.0%', '80.0%', 'diverged'],
  ]
  finetune.draw(found, tmp_path)
  assert (tmp_path / 'finetune.png').exists()


@pytest.mark.slow
def test_networks_are_trained_and_fine_tuned(tmp_path):
  command = [sys.executable, '-m', 'nfnets.studies.finetune', '--quick']
  tiny = ['--config.model.width=0.25', f'--out={tmp_path}']
  run = subprocess.run(
    [*command, *tiny], cwd=ROOT, capture_output=True, text=True
  )
  assert run.returncode == 0, run.stderr
  found = results.read(tmp_path / results.FILE)
  assert [x.labels['phase'] for x in found.values()] == [
    *('training', 'fine-tuning', 'training', 'fine-tuning')
  ]
  assert not any(x.diverged for x in found.values())
  assert run.stdout.count('| normalizer-free | ') == 1
