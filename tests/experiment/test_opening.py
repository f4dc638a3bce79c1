import jax

from nfnets.data import sources
from nfnets.experiment import build, opening, steps
from tests.experiment import tiny


def test_data_and_length():
  config = tiny.make_config(32)
  config.train.batch_size = 96
  config.train.epochs = 30.0
  source, held_out = (
    sources.load_source('digits', s) for s in ('train', 'test')
  )
  length = build.lengths(config, len(source))
  data, training = opening.describe_data(
    config, source, held_out, length
  ).splitlines()
  assert data.split(maxsplit=1) == [
    'data',
    'digits: 1,437 images (train) in 10 classes, 360 held out (test)',
  ]
  assert training.split(maxsplit=1)[1] == (
    f'{length.total} steps of 96 images, 30 epochs'
  )


def test_network_devices_and_optimizer(monkeypatch):
  config = tiny.make_config(32)
  run = steps.make_steps(config, 10, lambda step: 0.1)
  lines = opening.describe_network(run).splitlines()
  images = jax.numpy.zeros((1, 32, 32, 3))
  shapes = jax.eval_shape(run.model.init, jax.random.key(0), images)[0]
  count = sum(x.size for x in jax.tree.leaves(shapes))
  assert f'nf_resnet50: {count:,} parameters' in lines[0]
  assert lines[1].split() == f'devices {jax.device_count()} x cpu'.split()
  assert any('classifier weight: 1 tensors' in line for line in lines[2:])
  monkeypatch.setattr(opening.jax, 'process_count', lambda: 2)
  assert (
    opening.describe_network(run).splitlines()[1].endswith('in 2 processes')
  )


def test_only_process_0_prints(monkeypatch, capsys):
  opening.announce('one')
  monkeypatch.setattr(opening.devices, 'is_primary', lambda: False)
  opening.announce('two')
  assert capsys.readouterr().out == 'one\n'
