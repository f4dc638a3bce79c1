import jax

from nfnets.data import growth, sources
from nfnets.experiment import build, opening, recipes, steps
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
    config, source, held_out, length=length
  ).splitlines()
  assert data.split(maxsplit=1) == [
    'data',
    'digits: 1,437 images (train) in 10 classes, 360 held out (test)',
  ]
  assert training.split(maxsplit=1)[1] == (
    f'{length.total} steps of 96 images, 30 epochs'
  )

  data, _ = opening.describe_data(
    config, source, held_out, held_out, length=length
  ).splitlines()
  assert data.endswith('360 held out (test), 360 for the end (test)')


def test_growing_images():
  stages = growth.stages(32, 64, 4000)
  assert opening.describe_sizes(stages).split(maxsplit=1)[1] == (
    '32 px, 40 px from step 1,001 on, 56 px from step 2,001 on, 64 px from step'
    ' 3,001 on'
  )


def warns(config, steps_, caplog):
  caplog.clear()
  run = steps.Steps(
    config, build.make_model(config, 10), None, 1, None, None, None
  )
  opening.warn_of_skip_gains(run, build.Lengths(steps_, 0, 1, 1))
  return bool(caplog.messages)


def test_clipping_and_skip_gains_that_start_at_0_in_a_short_run(caplog):
  config = tiny.make_config(32)
  config.optimizer.learning_rate_batch = 0
  config.optimizer.clipping = 0.02
  # (1 + log(0.5 / 1e-3)) / (0.1 / (1 - 0.9) * 0.02) = 360.7 steps.
  assert warns(config, 3606, caplog)
  assert caplog.messages[0].startswith(
    'the skip gains start at 0, and clipping lets them grow slowly: 361 of 3606'
    ' steps would pass'
  )
  assert '--config.model.skip_gain_init=0.5' in caplog.messages[0]
  assert '--config.optimizer.clipping=0 ' in caplog.messages[0]
  assert not warns(config, 3608, caplog)
  for group, key, value in (
    ('model', 'skip_gain_init', 0.5),
    ('optimizer', 'clipping', 0.0),
    ('optimizer', 'learning_rate', 0.0),
    ('model', 'name', 'resnet50'),
  ):
    with config.unlocked():
      before = config[group][key]
      config[group][key] = value
      assert not warns(config, 100, caplog)
      config[group][key] = before
  config.init_from = 'weights.npz'
  assert not warns(config, 100, caplog)
  # timm's networks have no skip gains, but filter gains that start at 0.
  config.init_from = ''
  config.model.name = 'timm_nf_resnet26'
  assert warns(config, 100, caplog)


def test_published_recipes_never_warn(caplog):
  names = [f'nfnet_f{i}{plus}' for i in range(8) for plus in ('', '+')]
  configs = [recipes.imagenet_nfnet(name) for name in names]
  configs += [recipes.imagenet_nfnet_sam(f'nfnet_f{i}') for i in (5, 6)]
  configs += [recipes.imagenet_nf_regnet(f'nf_regnet_b{i}') for i in range(9)]
  for name in ('nf_resnet50', 'nf_resnet200'):
    configs += [
      recipes.imagenet_resnet(name),
      recipes.imagenet_resnet_agc(name),
    ]
  configs.append(
    recipes.pretraining(
      'nfnet_f4', epochs=40, batch_size=4096, weight_decay=1e-6
    )
  )
  configs.append(recipes.fine_tuning('nfnet_f4'))
  for config in configs:
    total = build.lengths(config, 1_281_167).total
    assert not warns(config, total, caplog), config.model.name


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
