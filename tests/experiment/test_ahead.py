"""--mode=compile: what it prints, and what it refuses."""

import re

import jax
import pytest

from nfnets import errors
from nfnets.analysis import macs
from nfnets.experiment import ahead, fitting, steps
from nfnets.runtime import memory
from tests.experiment import tiny


@pytest.fixture
def config():
  config = tiny.make_config(32)
  config.dataset = 'imagenet2012'
  config.train.batch_size = 16
  return config


def test_the_report(config, capsys, monkeypatch):
  """ImageNet need not be there; the four devices average gradients."""
  monkeypatch.setattr(memory, 'program_size', lambda _, beside=0: beside)
  monkeypatch.setattr(
    ahead.estimates,
    'describe',
    lambda text, device, flops, dtype: f'{device} {flops:.3g} {dtype}',
  )
  config.train.dtype = 'bfloat16'
  assert ahead.report(config, None) == 0
  out = capsys.readouterr().out
  run = steps.make_steps(config, 1000, lambda step: 0.1)
  params = jax.tree.leaves(steps.state_shapes(run).params)
  count = sum(x.size for x in params)
  assert out.startswith(f'nf_resnet50: {count:,} parameters, for 4 x cpu')
  assert 'train step: 4 images of 32 px on each device' in out
  assert 'evaluation step: 4 images of 32 px on each device' in out
  # The train state stays on the devices during an evaluation.
  beside = fitting.size_text(fitting.beside_evaluation(run))
  assert re.findall(r'memory +(.*) on each', out) == ['0 B', beside]
  exchanged = [
    float(x) for x in re.findall(r'collectives  all-reduce (\d+) KiB', out)
  ]
  # Gradients and metrics in float32.
  assert exchanged == [pytest.approx(4 * count / 1024, abs=2)]
  forward = 2 * 4 * macs.model_macs(run.model, 32)
  train, evaluation = map(float, re.findall(r'FLOPs +(\S+) in', out))
  assert re.findall(r'estimate +(.*)', out) == [
    f'cpu {train:.3g} bfloat16',
    # Evaluations run in float32.
    f'cpu {evaluation:.3g} float32',
  ]
  assert evaluation == pytest.approx(forward, rel=1e-2)
  # No gradient of the images.
  assert 2.5 * forward < train < 3 * forward


def test_data_sets_other_than_imagenet_are_opened(config, capsys):
  config.dataset = 'folder:/no/such/folder'
  with pytest.raises(errors.UserError, match='/no/such/folder'):
    ahead.report(config, None)


def test_a_batch_that_the_topology_does_not_divide(config, monkeypatch):
  monkeypatch.setattr(
    ahead.topology, 'target_devices', lambda name: jax.devices()[:3]
  )
  with pytest.raises(errors.UserError, match='3 device'):
    ahead.report(config, 'v5e:1x3')


def test_a_program_that_the_compiler_refuses(config, monkeypatch):
  def refuse(lowered, name):
    raise jax.errors.JaxRuntimeError('RESOURCE_EXHAUSTED: Used 20G of 15.75G')

  monkeypatch.setattr(ahead.topology, 'compile_for', refuse)
  with pytest.raises(errors.UserError, match='does not fit: reduce config.tr'):
    ahead.report(config, None)
