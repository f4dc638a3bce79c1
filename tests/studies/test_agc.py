"""The study of adaptive gradient clipping: its runs, tables and figure."""

import collections
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from matplotlib import figure as figure_lib

from nfnets import errors
from nfnets.experiment import checks
from nfnets.studies import agc, agc_figure, results
from tests.studies import made

ROOT = pathlib.Path(__file__).parents[2]


def labels_of(runs, *names):
  return [tuple(run.labels.get(name) for name in names) for run in runs]


def find(runs, **labels):
  (run,) = [x for x in runs if labels.items() <= x.labels.items()]
  return run


def test_the_first_seed_and_the_reference_rate_come_first():
  runs = agc.plan(made.make_options(agc, '--seeds=2'))
  assert len(runs) == 2 * 82 and len({run.name for run in runs}) == len(runs)
  seeds = [seed for (seed,) in labels_of(runs, 'seed')]
  assert seeds == sorted(seeds)
  first = [run.labels.get('rate', 0.1) for run in runs[:82]]
  assert first == [0.1] * 34 + [0.025] * 24 + [0.4] * 24
  count = collections.Counter(run.labels['method'] for run in runs[:82])
  assert count == {
    'batch norm': 12,
    'no clipping': 12,
    'global norm': 12,
    'AGC': 5 * 4 + 2 * 3 * 4,
    'AGC, AdamW': 1,
    'AGC, LAMB': 1,
  }


def test_every_run_sees_the_same_images_and_the_linear_rule():
  runs = agc.plan(made.make_options(agc, '--seeds=1'))
  for run in runs:
    config = checks.from_changes(run.settings)
    batch = run.labels['batch']
    assert config.train.batch_size * config.train.steps == 4096 * 300
    assert batch // config.train.accumulation <= 64
    if 'rate' in run.labels:
      assert config.optimizer.learning_rate_batch == 256
      assert config.optimizer.learning_rate == run.labels['rate']
    total = config.train.steps
    assert config.optimizer.warmup_steps == total * 5 // 90


def test_methods_differ_only_in_the_network_and_what_clips():
  runs = agc.plan(made.make_options(agc, '--seeds=1', '--rates', '0.1'))
  at = {'batch': 1024, 'seed': 0}
  plain = find(runs, method='no clipping', **at).settings
  with_agc = find(runs, method='AGC', **{'lambda': 0.04}, **at).settings
  norm = find(runs, method='global norm', **at).settings
  batch_norm = find(runs, method='batch norm', **at).settings
  assert {**plain, 'optimizer.clipping': 0.04} == with_agc
  assert {**plain, 'optimizer.clip_norm': 1.0} == norm
  changed = {'model.name': 'resnet50', 'model.skip_gain_init': None}
  assert {**plain, **changed} == batch_norm


def test_options_choose_the_grid():
  runs = agc.plan(
    made.make_options(
      agc,
      *('--seeds=1', '--steps=10', '--batches', '32', '64'),
      *('--rates', '0.2', '--lambdas', '0.01', '0.04'),
      *('--norms', '0.5', '0.1'),
    )
  )
  assert {run.labels['batch'] for run in runs} == {32, 64}
  lambdas = [x for (x,) in labels_of(runs, 'lambda') if x]
  assert lambdas == [0.04, 0.01, 0.04, 0.01, 0.01, 0.01]
  norms = [run.settings['optimizer.clip_norm'] for run in runs]
  assert [x for x in norms if x] == [0.5, 0.1, 0.5, 0.1]
  assert (
    find(runs, method='no clipping', batch=32).settings['train.steps'] == 20
  )


def test_what_is_varied_cannot_be_changed():
  options = made.make_options(agc)._replace(changed={'train.batch_size': 3})
  with pytest.raises(errors.UserError, match='train.batch_size has no effect'):
    agc.plan(options)


def test_a_quick_study_is_small():
  runs = agc.plan(made.make_options(agc, '--quick'))
  images = sum(
    run.settings['train.steps'] * run.settings['train.batch_size']
    for run in runs
  )
  # At 300 images/s these are 4 minutes.
  assert len(runs) == 12 and images < 75_000


def example():
  """Results of two batch sizes and two lambdas."""
  found = []
  for seed in range(2):
    for batch in (64, 1024):
      at = {'batch': batch, 'rate': 0.1, 'seed': seed}
      high = 0.5 + 0.1 * seed
      found += [
        made.result({'method': 'batch norm', **at}, high),
        made.result({'method': 'no clipping', **at}, 0.3, batch == 1024),
        made.result({'method': 'global norm', 'norm': 1.0, **at}, 0.4),
      ]
      for clipping in (0.16, 0.01):
        kinds = {'clipped': 0.5, 'clipped/3x3': 0.25, 'clipped/stem': clipping}
        top1 = 0.4 if clipping == 0.01 else 0.2
        found.append(
          made.result(
            {'method': 'AGC', 'lambda': clipping, **at}, top1, **kinds
          )
        )
  return found


def test_each_method_is_shown_with_its_best_settings():
  best, everything = agc_figure.describe(example()).split('\n\n')
  rows = [line.split('|')[1:-1] for line in best.splitlines()[2:]]
  cells = {row[0].strip(): [x.strip() for x in row[1:]] for row in rows}
  # Two seeds: 12.706 * 0.0707 / sqrt(2).
  assert cells['batch norm'] == ['55.0 ± 63.5% (rate 0.1)'] * 2
  assert cells['no clipping'][1] == 'diverged (rate 0.1)'
  assert cells['AGC'] == ['40.0 ± 0.0% (rate 0.1, lambda 0.01)'] * 2
  lines = everything.splitlines()
  assert len(lines) == 2 + 10
  assert lines[0].split('|')[7:-1] == [
    ' clipped     ',
    ' stem        ',
    ' 3x3         ',
  ]


def test_settings_that_diverge_less_often_are_better():
  found = [
    made.result({'lambda': 0.1, 'seed': 0}, 0.9),
    made.result({'lambda': 0.1, 'seed': 1}, diverged=True),
    made.result({'lambda': 0.2, 'seed': 0}, 0.5),
    made.result({'lambda': 0.2, 'seed': 1}, 0.5),
  ]
  assert agc_figure.choose(found) == found[2:]
  assert agc_figure.choose([]) == []


def test_the_panels_show_the_numbers(tmp_path):
  agc.draw(example(), tmp_path)
  assert (tmp_path / 'agc.png').stat().st_size < 150_000
  agc.draw([], tmp_path)
  axes = figure_lib.Figure().subplots()
  agc_figure._draw_lambdas(axes, example())
  curve = axes.containers[1].lines[0]
  assert list(curve.get_xdata()) == [0.01, 0.16]
  assert [float(x) for x in curve.get_ydata()] == pytest.approx([40, 20])
  axes = figure_lib.Figure().subplots()
  agc_figure._draw_clipped(axes, example())
  # Two lambdas side by side, at the stem and at 3x3 filters.
  large, small = (bars.lines[0].get_xydata() for bars in axes.containers)
  np.testing.assert_allclose(large.astype(float), [[-0.175, 16], [0.825, 25]])
  np.testing.assert_allclose(small.astype(float), [[0.175, 1], [1.175, 25]])


TINY = (
  *('--batches', '32', '--steps=30', '--lambdas', '0.01', '--rates', '1.0'),
  *('--seeds=1', '--config.model.width=0.25'),
)


def start(out):
  return subprocess.Popen(
    [sys.executable, '-m', 'nfnets.studies.agc', f'--out={out}', *TINY],
    cwd=ROOT,
    env={**os.environ, 'JAX_PLATFORMS': 'cpu'},
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def in_the_second_run(out):
  """Whether one run has ended, and another has a checkpoint."""
  return (out / results.FILE).exists() and any(
    out.glob('runs/*/checkpoints/[0-9]*')
  )


@pytest.mark.slow
def test_a_study_killed_in_the_middle_ends_with_the_same_table(tmp_path):
  whole, killed = tmp_path / 'whole', tmp_path / 'killed'
  expected, stderr = start(whole).communicate()
  assert 'AGC' in expected, stderr
  process = start(killed)
  while process.poll() is None and not in_the_second_run(killed):
    time.sleep(0.02)
  process.kill()
  process.communicate()
  assert process.returncode == -signal.SIGKILL
  before = (killed / results.FILE).read_bytes()
  assert 1 <= before.count(b'\n') < 4
  table, stderr = start(killed).communicate()
  assert table.replace(str(killed), str(whole)) == expected, stderr
  after = (killed / results.FILE).read_bytes()
  assert after.startswith(before) and after.count(b'\n') == 4
  for line in after.splitlines():
    run = json.loads(line)
    if run['labels']['method'] == 'AGC':
      assert 0 <= run['numbers']['clipped/3x3'] <= 1
  assert (killed / 'agc.png').exists()
  assert not list(killed.glob('runs/*/checkpoints'))
