"""The reports of a run and of its checkpoint."""

import csv
import json
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfnets.data import images
from nfnets.experiment import (
  build,
  classes,
  evaluate,
  inputs,
  reports,
  steps,
)
from nfnets.experiment import config as config_lib
from nfnets.report import page
from nfnets.training import checkpoint, devices, loop
from nfnets.training import state as state_lib
from tests.experiment import tiny


class Run:
  """A run of random weights that has just ended, at step 7."""

  def __init__(self, workdir):
    config = tiny.make_config(32)
    config.eval.batch_size = 100
    config.train.ema_decay = 0.9
    self.config, self.workdir = config, workdir
    self.source = inputs.load_source(config, 'eval')
    self.steps = steps.make_steps(config, 10, lambda step: 0.1)
    model = self.steps.model
    shapes, _ = jax.eval_shape(
      model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3))
    )
    rng = np.random.default_rng(0)
    params, average = (
      jax.tree.map(lambda x: rng.normal(size=x.shape).astype(x.dtype), shapes)
      for _ in range(2)
    )
    state = state_lib.TrainState(params, {}, (), average, {}, jnp.int32(7))
    saver = checkpoint.Checkpointer(
      workdir / 'checkpoints',
      config=config_lib.flatten(config),
      dataset=classes.describe(self.source, self.source),
    )
    saver.save(7, state)
    saver.close()
    self.state = devices.replicate(state)
    self.evaluation = build.make_evaluation(
      config, model, self.steps.evaluation, self.source
    )
    self.messages = []

  def report(self, evaluation=None, exit_status=0):
    outcome = loop.Outcome(self.state, 7, {}, exit_status)
    reporter = types.SimpleNamespace(message=self.messages.append)
    reports.after_training(
      self.steps,
      self.source,
      evaluation or self.evaluation,
      outcome,
      reporter,
      self.workdir,
    )
    return self.workdir / 'report.html'


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  run = Run(tmp_path_factory.mktemp('run'))
  run.metrics = run.evaluation(run.state, lambda: False)
  line = {'step': 7, **run.metrics}
  (run.workdir / 'metrics.jsonl').write_text(json.dumps(line) + '\n')
  return run


def files(folder):
  return {
    path.relative_to(folder): path.read_text()
    for path in [folder / 'report.html', *(folder / 'report').iterdir()]
  }


def test_an_evaluation_writes_the_report_of_the_end_of_training(
  run, capsys, monkeypatch
):
  page_path = run.report()
  assert run.messages[-1] == f'report:      {page_path}'
  before = files(run.workdir)
  assert len(before) == 4
  page_path.unlink()
  # With the programs that are compiled already.
  step = run.steps.evaluation
  monkeypatch.setattr(steps, 'make_eval_step', lambda *_, **__: step)
  monkeypatch.setattr(build, 'make_evaluation', lambda *_: run.evaluation)
  assert evaluate.evaluate(run.config, run.workdir) == 0
  assert files(run.workdir) == before
  assert f'report: {page_path}' in capsys.readouterr().out


def test_tables_and_page_have_the_numbers_of_the_metrics(run):
  text = run.report().read_text()
  for prefix in ('', 'ema_'):
    for name in ('top1', 'macro_f1', 'ece'):
      assert f'{run.metrics[f"eval/{prefix}{name}"]:.2%}' in text
  assert 'is about the averaged weights of step 7' in text
  with open(run.workdir / 'report' / 'per_class.csv', newline='') as file:
    rows = list(csv.DictReader(file))
  assert sum(int(row['images']) for row in rows) == 360
  recall = np.mean([float(row['recall']) for row in rows])
  assert recall == pytest.approx(run.metrics['eval/ema_macro_recall'])
  with open(run.workdir / 'report' / 'confusion.csv', newline='') as file:
    rows = list(csv.DictReader(file))
  hits = sum(int(x['images']) for x in rows if x['true'] == x['predicted'])
  assert hits / 360 == pytest.approx(run.metrics['eval/ema_top1'])


def test_a_finished_run_is_evaluated_again_only_if_its_report_is_missing(run):
  text = run.report().read_text()
  outcomes = run.evaluation.outcomes
  run.evaluation.outcomes = None  # As at the start of a program.
  run.report()
  assert run.evaluation.outcomes is None
  page_path = run.workdir / 'report.html'
  page_path.write_text(text.replace(page.step_tag(7), page.step_tag(6)))
  assert run.report().read_text() == text
  assert run.evaluation.outcomes.keys() == outcomes.keys()


def test_a_run_that_was_stopped_has_no_report(run, tmp_path, monkeypatch):
  monkeypatch.setattr(run, 'workdir', tmp_path)
  assert not run.report(exit_status=143).exists()


def test_a_report_that_cannot_be_written_is_a_warning(
  run, tmp_path, monkeypatch, caplog
):
  (tmp_path / 'report').touch()
  monkeypatch.setattr(run, 'workdir', tmp_path)
  messages = len(run.messages)
  assert not run.report().exists()
  assert 'report.html cannot be written' in caplog.text
  assert len(run.messages) == messages


def test_pictures_are_those_that_the_network_sees(run):
  subject = reports.Subject(
    run.config, run.steps.model, run.source, list('0123456789'), {}
  )
  picture = reports._picture(subject, 123)
  batch = inputs.eval_batches(run.config, run.source, run.steps.model)[1]
  shown = images.decode(picture.data).astype(int)
  assert np.abs(shown - batch['image'][23]).mean() < 3  # lossy
  assert picture.is_small and picture.id == run.source[123]['id']


def test_large_pictures_are_reduced(run):
  config = run.config.copy_and_resolve_references()
  config.data.eval_size = 330
  subject = reports.Subject(config, run.steps.model, run.source, (), {})
  picture = reports._picture(subject, 0)
  assert images.decode(picture.data).shape == (165, 165, 3)
  assert not picture.is_small
