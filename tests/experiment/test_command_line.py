"""Command lines: overrides have the right type, errors are one line."""

import json

import pytest

from nfnets import errors
from nfnets.experiment import command_line
from nfnets.experiment import config as config_lib

CONFIG = '--config=experiments/digits.py'
BASE = 'from nfnets.experiment import config as c\ndef get_config():\n'


@pytest.fixture(autouse=True)
def in_the_root(monkeypatch, request):
  monkeypatch.chdir(request.config.rootpath)


@pytest.fixture
def settings_file(tmp_path):
  return tmp_path / 'mine.py'


def error_of(arguments, workdir=None):
  with pytest.raises(errors.UserError) as caught:
    command_line.parse_config(arguments, workdir)
  message = str(caught.value)
  assert '\n' not in message
  return message


def test_overrides_are_typed():
  config, name = command_line.parse_config(
    [
      CONFIG,
      '--config.train.batch_size=16',
      '--config.optimizer.learning_rate',
      '1',
      '--config.model.depth=1,2,3,4',
      '--config.train.ema_decay=0',
      '--config.dataset=folder:/pictures',
      '--config.data.strict',
      '--config.augment.flip=true',
      '--config.data.area_range=0.5,1',
      '--config.model.drop_rate=none',
      '--config.data.data_dir=',
    ]
  )
  assert name == 'digits'
  assert config.data.strict is True and config.augment.flip is True
  assert config.data.area_range == (0.5, 1.0)
  assert config.model.drop_rate is None
  assert config.data.data_dir == ''
  assert config.train.batch_size == 16
  assert config.optimizer.learning_rate == 1.0
  assert config.model.depth == (1, 2, 3, 4)
  assert config.train.ema_decay == 0.0
  assert config.dataset == 'folder:/pictures'


@pytest.mark.parametrize(
  'value, model, name',
  [
    ('nf_regnet.py:b3', 'nf_regnet_b3', 'nf_regnet_b3'),
    ('nf_regnet.py', 'nf_regnet_b0', 'nf_regnet_b0'),
    ('nfnet_plus.py:f4', 'nfnet_f4+', 'nfnet_plus_f4'),
    ('nf_resnet.py:101', 'nf_resnet101', 'nf_resnet_101'),
  ],
)
def test_variants(value, model, name):
  config, run_name = command_line.parse_config(
    [f'--config=experiments/{value}', '--config.seed=1']
  )
  assert (config.model.name, run_name, config.seed) == (model, name, 1)


@pytest.mark.parametrize(
  'arguments, expected',
  [
    ([], 'no --config'),
    (['--config='], 'no --config'),
    ([f'--config={"x" * 300}/digits.py'], 'digits.py: no such file'),
    (['--config=experiments/digts.py'], 'did you mean experiments/digits.py?'),
    (
      ['--config=experiments/nf_regnet_b3.py'],
      'did you mean experiments/nf_regnet.py:b3?',
    ),
    (
      ['--config=experiments/nf_regnet.py:b9'],
      'nf_regnet.py:b9: no such variant (variants: b0, b1, b2, b3, b4, b5, b6,',
    ),
    (['--config=experiments/nf_resnet.py:10'], "did you mean '101'?"),
    (
      ['--config=experiments/digits.py:f0'],
      'digits.py:f0: experiments/digits.py has no variants',
    ),
    ([CONFIG, '--config.train.batchsize=3'], '--config.train.batch_size?'),
    ([CONFIG, '--config.trian.epochs=3'], '--config.train.epochs?'),
    ([CONFIG, '--config.train=3'], '--config.train is a group of settings'),
    ([CONFIG, '--config.train.batch_size=x'], "'x'"),
    ([CONFIG, '--config.train.batch_size=1.5'], '1.5'),
    ([CONFIG, '--config.train.batch_size'], 'no value'),
    ([CONFIG, '--config.train.batch_size='], 'no value'),
    ([CONFIG, '--config.dataset'], 'no value'),
    ([CONFIG, '--config.data.strict='], 'no value'),
    ([CONFIG, '--config.batch_size=3'], 'did you mean --config.'),
    ([CONFIG, '--config.dataset='], "config.dataset is ''"),
    ([CONFIG, '--config.train.batch_size=-1'], 'config.train.batch_size is -1'),
    ([CONFIG, '--workdri=x'], "'--workdri=x'"),
    ([CONFIG, 'stray'], "'stray'"),
  ],
)
def test_errors_are_one_line(arguments, expected):
  assert expected in error_of(arguments)


@pytest.mark.parametrize(
  'text, expected',
  [
    ('def get_config(:\n', 'SyntaxError'),
    ('def get_config():\n  return 1 / 0\n', 'division by zero'),
    ('x = 1\n', 'get_config'),
    ('def get_config():\n  return 3\n', 'not a ConfigDict'),
    (
      'import ml_collections\n'
      'def get_config():\n  return ml_collections.ConfigDict()\n',
      'nfnets.experiment.config.base()',
    ),
    (
      BASE + '  x = c.base()\n  x.train.epoch = 3\n  return x\n',
      'unknown setting train.epoch: did you mean train.epochs?',
    ),
    (
      BASE + "  x = c.base()\n  x.train.epochs = '3'\n  return x\n",
      "config.train.epochs is '3': it must be a number from 0 to 1000000000",
    ),
    (
      BASE + '  x = c.base()\n  x.data.area_range = 0.25\n  return x\n',
      'config.data.area_range is 0.25: it must be two numbers low,high',
    ),
    (
      BASE + '  x = c.base()\n  x.trian.epochs = 3\n  return x\n',
      'line 4: AttributeError: ',
    ),
  ],
)
def test_the_error_in_a_settings_file_is_reported(
  settings_file, text, expected
):
  settings_file.write_text(text)
  message = error_of([f'--config={settings_file}'])
  assert str(settings_file) in message
  assert expected in message


def test_a_file_may_take_any_argument_if_it_lists_none(settings_file):
  text = BASE.replace('()', '(size)') + '  x = c.base()\n'
  settings_file.write_text(text + '  x.seed = int(size)\n  return x\n')
  config, name = command_line.parse_config([f'--config={settings_file}:12'])
  assert (config.seed, name) == (12, 'mine_12')


def test_a_wrong_setting_of_a_file_may_be_replaced(settings_file):
  text = BASE + '  x = c.base()\n  x.train.epochs = -1\n  return x\n'
  settings_file.write_text(text)
  config, _ = command_line.parse_config(
    [f'--config={settings_file}', '--config.train.epochs=6']
  )
  assert config.train.epochs == 6.0


def test_a_file_sees_its_own_names_only(settings_file):
  settings_file.write_text(
    'SIZE = 8\n' + BASE + '  x = c.base()\n  x.seed = SIZE\n  return x\n'
  )
  config, _ = command_line.parse_config([f'--config={settings_file}'])
  assert config.seed == 8
  settings_file.write_text(settings_file.read_text().replace('SIZE = 8\n', ''))
  message = error_of([f'--config={settings_file}'])
  assert f"{settings_file}, line 4: NameError: name 'SIZE'" in message


@pytest.mark.parametrize(
  'flags, expected',
  [
    (
      ['train.epochs=3'],
      '--config.train.epochs has no effect, because config.train.steps is 9:',
    ),
    (
      ['optimizer.warmup_epochs=1'],
      'no effect, because config.optimizer.warmup_steps is 2:',
    ),
    (
      ['augment.randaugment_magnitude=5'],
      'no effect, because config.augment.randaugment_layers is 0:',
    ),
    (
      ['train.early_stopping_metric=eval/loss'],
      'because config.train.early_stopping_patience is 0:',
    ),
    (['train.sam_share=0.5'], 'because config.train.sam_rho is 0.0'),
    (['optimizer.clip_eps=0.1'], 'because config.optimizer.clipping is 0.0'),
    (['train.epochs=30', 'train.steps=0'], None),
    (['train.epochs=0', 'train.steps=7'], None),
    (['train.sam_share=0.5', 'train.sam_rho=0.1'], None),
    (
      ['augment.randaugment_magnitude=5', 'augment.randaugment_layers=0'],
      None,
    ),
  ],
)
def test_changes_without_effect(settings_file, flags, expected):
  settings_file.write_text(
    BASE + '  x = c.base()\n  x.train.steps = 9\n'
    '  x.optimizer.warmup_steps = 2\n  return x\n'
  )
  arguments = [f'--config={settings_file}', *(f'--config.{x}' for x in flags)]
  if expected is None:
    command_line.parse_config(arguments)
  else:
    assert expected in error_of(arguments)


def save_run(workdir, **changes):
  values = config_lib.flatten(config_lib.base()) | changes
  (workdir / 'config.json').write_text(json.dumps(values))


def test_without_a_file_the_settings_are_those_of_the_run(tmp_path):
  save_run(tmp_path, **{'seed': 7, 'model.depth': [1, 2, 3, 4]})
  config, name = command_line.parse_config(
    ['--config=', '--config.train.epochs=400'], tmp_path
  )
  assert (config.seed, config.train.epochs) == (7, 400.0)
  assert config.model.depth == (1, 2, 3, 4)
  assert name == tmp_path.name
  config, name = command_line.parse_config([CONFIG], tmp_path)
  assert (config.seed, name) == (0, 'digits')


def test_a_run_of_an_earlier_version_has_the_defaults(tmp_path):
  (tmp_path / 'config.json').write_text('{"seed": 7}')
  config, _ = command_line.parse_config([], tmp_path)
  assert (config.seed, config.data.max_pixels) == (7, 100_000_000)


@pytest.mark.parametrize(
  'text, expected',
  [
    (None, 'no --config, and '),
    ('{', 'config.json cannot be read'),
    ('[]', 'config.json cannot be read'),
    ('{"train.beta": 1}', 'config.json: unknown setting train.beta'),
    ('{"train.sam_rho": -1}', 'config.json: config.train.sam_rho is -1: it'),
    ('{"train.sam_rho": NaN}', 'config.json: config.train.sam_rho is nan: it'),
    ('{"train": {"steps": 1}}', 'config.json: train is a group of settings'),
  ],
)
def test_settings_of_a_run_that_cannot_be_used(tmp_path, text, expected):
  if text is not None:
    (tmp_path / 'config.json').write_text(text)
  message = error_of([], tmp_path)
  assert expected in message and str(tmp_path) in message


@pytest.mark.parametrize(
  'arguments, ignored',
  [
    (['optimizer.name=adamw', 'optimizer.momentum=0.8'], 'momentum'),
    (['optimizer.name=lamb', 'optimizer.nesterov=false'], 'nesterov'),
    (['optimizer.beta1=0.8'], 'beta1'),
    (['optimizer.beta2=0.9'], 'beta2'),
    (['optimizer.eps=1e-6'], 'eps'),
    (
      ['freeze=all', 'init_from=x', 'optimizer.layer_decay=0.8'],
      'layer_decay',
    ),
  ],
)
def test_settings_of_another_optimizer_are_errors(arguments, ignored):
  arguments = [f'--config.{argument}' for argument in arguments]
  with pytest.raises(errors.UserError) as caught:
    command_line.parse_config(['--config=experiments/digits.py', *arguments])
  expected = f'--config.optimizer.{ignored} has no effect, because config.'
  assert expected in str(caught.value)


def test_settings_of_the_chosen_optimizer_are_read():
  config, _ = command_line.parse_config(
    [
      '--config=experiments/digits.py',
      '--config.optimizer.name=adamw',
      '--config.optimizer.beta2=0.95',
      '--config.init_from=x.npz',
      '--config.freeze=true',
    ]
  )
  assert (config.optimizer.beta2, config.freeze) == (0.95, 'all')
