"""The study of the parts of the recipe."""

import pathlib
import subprocess
import sys

import pytest

from nfnets.experiment import checks
from nfnets.studies import recipe, results
from tests.studies import made

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
  monkeypatch.chdir(ROOT)


def plan(*arguments, **changed):
  options = made.make_options(recipe, *arguments)
  return recipe.plan(options._replace(changed=changed))


def test_every_part_is_run_with_every_seed():
  runs = plan('--seeds=2', **{'train.batch_size': 32})
  assert len(runs) == 2 * len(recipe.SWITCHES) == 20
  assert len({run.name for run in runs}) == 20
  last = checks.from_changes(runs[-1].settings)
  assert runs[-1].labels == {'enabled': 'everything', 'seed': 1}
  assert last.augment.randaugment_layers == 1
  assert last.augment.cutmix_alpha == 1.0
  assert last.train.sam_rho == 0.05
  assert last.train.dtype == 'bfloat16'
  assert last.train.accumulation == 4
  assert last.train.ema_decay == 0.99
  assert last.train.batch_size == 32 and last.seed == 1


def test_each_row_enables_one_part():
  nothing, *parts, _ = (run.settings for run in plan('--seeds=1'))
  # The experiment itself has some of them.
  assert nothing['train.ema_decay'] == nothing['train.label_smoothing'] == 0
  for name, settings in zip(list(recipe.SWITCHES)[1:], parts, strict=False):
    differing = {k for k, x in settings.items() if x != nothing[k]}
    assert differing >= set(recipe.SWITCHES[name]) - {
      'augment.randaugment_magnitude'
    }
    assert differing <= set(recipe.SWITCHES[name])


def test_another_data_set_has_the_experiment_for_small_images():
  (run,) = plan('--dataset=cifar10', '--only', 'nothing')
  assert run.settings['dataset'] == 'cifar10'
  assert run.settings['model.name'] == 'nfnet_f0'
  assert run.settings['augment.flip']
  (run,) = plan('--quick', '--only', 'SAM')
  assert run.settings['train.steps'] == 24 and not run.settings['augment.flip']


def test_the_table_has_means_intervals_and_medians():
  found = [
    made.result({'enabled': 'SAM', 'seed': i}, top1, ema_top1=0.98, step_time=t)
    for i, (top1, t) in enumerate([(0.97, 0.1), (0.98, 0.3), (0.99, 0.12)])
  ]
  found.append(made.result({'enabled': 'bfloat16', 'seed': 0}, diverged=True))
  rows = recipe.table(found).splitlines()[2:]
  cells = [[x.strip() for x in row.split('|')[1:-1]] for row in rows]
  assert cells == [
    ['SAM', '98.0 ± 2.5%', '98.0 ± 0.0%', '120 ms'],
    ['bfloat16', 'diverged', 'diverged', '-'],
  ]


def test_the_figure_is_drawn(tmp_path):
  recipe.draw([made.result({'enabled': 'SAM', 'seed': 0})], tmp_path)
  assert (tmp_path / 'recipe.png').exists()


@pytest.mark.slow
def test_all_parts_together_train(tmp_path):
  run = subprocess.run(
    [sys.executable, '-m', 'nfnets.studies.recipe', f'--out={tmp_path}']
    + ['--seeds=1', '--only', 'nothing', 'everything']
    + ['--config.train.steps=4', '--config.log.every_steps=2']
    + ['--config.optimizer.warmup_epochs=0'],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert run.returncode == 0, run.stderr
  assert run.stdout.count('| everything | ') == 1
  found = results.read(tmp_path / results.FILE)
  assert [x.diverged for x in found.values()] == [False, False]


def test_a_wrong_setting_is_one_line_before_any_run(tmp_path):
  run = subprocess.run(
    [sys.executable, '-m', 'nfnets.studies.recipe', f'--out={tmp_path}/x']
    + ['--config.train.stepz=4'],
    cwd=ROOT,
    capture_output=True,
    text=True,
  )
  assert run.returncode == 1 and run.stderr.count('\n') == 1
  assert 'train.steps' in run.stderr
  assert not (tmp_path / 'x').exists()
