"""Every path that a user gives: `~`, variables, and URLs, which are refused."""

import importlib
import pathlib
import re
import sys

import pytest

from nfnets import errors, models, weights
from nfnets.data import folder_source, folders, sources
from nfnets.inference import network
from tests import source
from tests.data import pictures
from tests.weights import tiny

ROOT = source.ROOT
CONFIG = f'--config={ROOT}/experiments/digits.py'

# Command, arguments with {} for the path, and what the message calls it.
COMMANDS = [
  ('experiment.__main__', [CONFIG, '--workdir={}'], '--workdir'),
  ('experiment.__main__', [CONFIG, '--workdir', '{}'], '--workdir'),
  ('experiment.__main__', ['--config={}'], '--config'),
  ('experiment.__main__', ['--config={}', '--help'], '--config'),
  ('experiment.__main__', [CONFIG, '--config.init_from={}'], 'init_from'),
  ('experiment.__main__', [CONFIG, '--config.data.data_dir={}'], 'data_dir'),
  ('experiment.__main__', [CONFIG, '--config.dataset=folder:{}'], 'dataset'),
  (
    'experiment.__main__',
    [CONFIG, '--mode=eval', '--weights={}'],
    '--weights',
  ),
  ('experiment.preview', [CONFIG, '--out={}'], '--out'),
  ('experiment.preview', ['--config', '{}'], '--config'),
  ('studies.recipe', [CONFIG, '--out={}'], '--out'),
  ('studies.recipe', ['--config={}'], '--config'),
  ('studies.agc', ['--out={}'], '--out'),
  ('studies.agc', ['--dataset=folder:{}'], 'dataset'),
  ('studies.finetune', ['--pretrain=folder:{}'], 'dataset'),
  ('benchmark.__main__', ['--trace={}'], '--trace'),
  ('benchmark.__main__', ['data', '--peer-python=python,{}'], '--peer-python'),
  ('data.__main__', ['folder:{}'], 'dataset'),
  ('data.__main__', ['digits', '--data_dir={}'], 'data_dir'),
  ('data.__main__', ['digits', '--grid={}'], '--grid'),
  ('predict', ['--weights={}', 'image'], '--weights'),
  ('predict', ['--weights=file', '{}'], 'image'),
  ('convert', ['{}', 'to', '--to=timm'], 'SOURCE'),
  ('convert', ['from', '{}', '--to=timm'], 'DESTINATION'),
]
FUNCTIONS = {
  'load': lambda path: weights.load(path, 'nfnet_f0'),
  'load_model': weights.load_model,
  'save': lambda path: weights.save(path, {}, {}, 'nfnet_f0'),
  'load_folder': lambda path: folder_source.load_folder('mine', path, 'train'),
  'load_source': lambda path: sources.load_source(f'folder:{path}', 'train'),
  'data_dir': lambda path: sources.load_source('digits', 'train', path),
  'find_images': lambda path: folders.find_images([path]),
}
URLS = [
  'gs://bucket/x',
  's3://bucket/x',
  'hf://owner/x',
  'https://github.com/x.py',
  'FILE:///x',
  '$NFNETS_BUCKET/x',
]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
  """An empty current folder and home."""
  monkeypatch.setenv('HOME', str(tmp_path / 'home'))
  monkeypatch.setenv('NFNETS_BUCKET', 'gs://bucket')
  monkeypatch.setenv('NFNETS_HERE', str(tmp_path / 'variable'))
  monkeypatch.delenv('TFDS_DATA_DIR', raising=False)
  folder = tmp_path / 'cwd'
  folder.mkdir()
  monkeypatch.chdir(folder)
  return folder


def error_of(call, *arguments):
  with pytest.raises(errors.UserError) as caught:
    call(*arguments)
  assert '\n' not in str(caught.value)
  return str(caught.value)


def run(monkeypatch, module, arguments, path):
  """Runs a command's main function, which must not get to use JAX."""

  def slow():
    raise AssertionError('started the slow part')

  program = importlib.import_module(f'nfnets.{module}')
  monkeypatch.setattr('nfnets.runtime.platforms.check', slow)
  words = [word.replace('{}', path) for word in arguments]
  monkeypatch.setattr(sys, 'argv', ['program', *words])
  program.main()


@pytest.mark.parametrize('module, arguments, what', COMMANDS)
@pytest.mark.parametrize('path', URLS)
def test_commands_refuse_a_url_first(
  monkeypatch, elsewhere, module, arguments, what, path
):
  message = error_of(run, monkeypatch, module, arguments, path)
  shown = path.replace('$NFNETS_BUCKET', 'gs://bucket')
  assert shown in message or f'{pathlib.Path(shown)}' in message
  assert f'{what}): ' in message
  assert 'gcsfuse' in message and 'mountpoint-s3' in message
  assert not list(elsewhere.iterdir())


@pytest.mark.parametrize('module, arguments, what', COMMANDS)
def test_commands_refuse_a_variable_that_is_not_set(
  monkeypatch, elsewhere, module, arguments, what
):
  message = error_of(run, monkeypatch, module, arguments, '$NFNETS_NO/x')
  assert '$NFNETS_NO/x (' in message
  assert f"{what}): the variable 'NFNETS_NO' is not set" in message
  assert not list(elsewhere.iterdir())


@pytest.mark.parametrize('path', [*URLS, pathlib.Path('gs://bucket/x')])
@pytest.mark.parametrize('call', FUNCTIONS.values(), ids=FUNCTIONS)
def test_functions_refuse_a_url(elsewhere, call, path):
  assert 'gcsfuse' in error_of(call, path)
  assert not list(elsewhere.iterdir())


@pytest.mark.parametrize('call', FUNCTIONS.values(), ids=FUNCTIONS)
def test_functions_refuse_a_variable_that_is_not_set(elsewhere, call):
  assert "'NFNETS_NO'" in error_of(call, '${NFNETS_NO}/x')
  assert not list(elsewhere.iterdir())


def test_the_environment_may_not_specify_a_url(monkeypatch):
  monkeypatch.setenv('TFDS_DATA_DIR', 'gs://data')
  message = error_of(sources.load_source, 'cifar10', 'train')
  assert message.startswith('gs://data (TFDS_DATA_DIR): ')
  message = error_of(sources.load_source, 'gs://data/cifar10', 'train')
  assert message.startswith('gs://data/cifar10 (dataset): ')


# What a user writes -> the folder that it is.
HOMES = {
  '~': 'home',
  '$NFNETS_HERE': 'variable',
  '${NFNETS_HERE}s': 'variables',
}


@pytest.mark.parametrize('given', HOMES)
@pytest.mark.parametrize(
  'module, arguments',
  [
    ('experiment.__main__', ['--config={}/none.py']),
    ('data.__main__', ['folder:{}/none']),
    ('data.__main__', ['imagenet2012', '--data_dir={}/none']),
    ('predict', ['--weights=file', '{}/none']),
    ('convert', ['from', '{}/none/file', '--to=timm']),
  ],
)
def test_commands_expand_paths(tmp_path, monkeypatch, module, arguments, given):
  message = error_of(run, monkeypatch, module, arguments, given)
  assert f'{tmp_path / HOMES[given]}/none' in message


@pytest.mark.parametrize('given', HOMES)
def test_an_experiment_expands_its_paths(tmp_path, monkeypatch, given):
  from nfnets.experiment import __main__ as entry
  from nfnets.experiment import evaluate
  from nfnets.runtime import compilation

  seen = []
  monkeypatch.setattr(compilation, 'prepare', lambda **_: None)
  monkeypatch.setattr(
    evaluate, 'evaluate', lambda *arguments: seen.append(arguments[1:]) or 0
  )
  folder = tmp_path / HOMES[given]
  (folder / 'mine').mkdir(parents=True, exist_ok=True)
  (folder / 'mine' / 'recipe.py').write_text(
    (ROOT / 'experiments' / 'digits.py').read_text()
  )
  arguments = [f'--config={given}/mine/recipe.py', f'--workdir={given}/run']
  arguments += ['--mode=eval', f'--weights={given}/file']
  monkeypatch.setattr(sys, 'argv', ['program', *arguments])
  entry.main()
  assert seen == [(folder / 'run', [str(folder / 'file')], False)]


@pytest.mark.parametrize('given', HOMES)
def test_functions_expand_paths(tmp_path, given):
  folder = tmp_path / HOMES[given]
  folder.mkdir()
  weights.save(f'{given}/file', tiny.params(), {}, tiny.NAME, **tiny.OPTIONS)
  assert (folder / 'file').is_file()
  assert weights.load_model(f'{given}/file').model.config.name == tiny.NAME
  images = pictures.write_class_folders(folder / 'images', range(20))
  for data in (
    folder_source.load_folder('mine', f'{given}/images', 'all'),
    sources.load_source(f'folder:{given}/images', 'all'),
  ):
    assert len(data) == 20
  assert len(folders.find_images([f'{given}/images'])) == len(images)


@pytest.mark.parametrize('given', HOMES)
def test_the_folder_of_data_sets_is_expanded(tmp_path, monkeypatch, given):
  expected = f'{tmp_path / HOMES[given]}/sets/cifar10'
  assert expected in error_of(
    sources.load_source, 'cifar10', 'train', f'{given}/sets'
  )
  monkeypatch.setenv('TFDS_DATA_DIR', f'{given}/sets')
  assert expected in error_of(sources.load_source, 'cifar10', 'train')


def test_predictions_expand_paths(tmp_path, monkeypatch):
  # Not folded, which would have to be compiled.
  monkeypatch.setattr(models, 'for_inference', lambda *network: network)
  (tmp_path / 'home').mkdir()
  tiny.save(tmp_path / 'home' / 'file')
  predict = network.Network(weights.load_model('~/file')).predict
  assert str(tmp_path / 'home' / 'none.jpg') in error_of(predict, '~/none.jpg')
  assert 'gcsfuse' in error_of(predict, 'gs://bucket/image.jpg')


def test_paths_are_expanded_in_one_place():
  pattern = re.compile(
    r'expanduser|expandvars|type=pathlib|pathlib\.Path\(options'
  )
  found = {
    path.relative_to(ROOT / 'nfnets').as_posix()
    for path in source.FILES
    if pattern.search(path.read_text())
  }
  # The default folder of TFDS, which no user gives.
  assert found == {'files.py', 'data/prepared.py'}
