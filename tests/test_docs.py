"""The documents are true: commands and snippets run, links and names exist."""

import importlib
import os
import pathlib
import re
import shlex
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest
import sklearn.datasets

from nfnets import models, weights
from nfnets.experiment import command_line
from nfnets.experiment import config as config_lib
from nfnets.training import checkpoint
from tests import documented, documents

ROOT, PAGES = documents.ROOT, documents.PAGES

COMMANDS = sorted({c for page in PAGES for c in documents.commands(page)})
OURS = [c for c in COMMANDS if c.startswith('python -m nfnets.')]
SPANS = sorted({span for page in PAGES for span in documents.spans(page)})
FOLDERS = 'nfnets|experiments|docs|launch|tests'
PATH = re.compile(rf'(?<![\w./~-])(?:{FOLDERS})/[\w./-]*\w')


def name_of(page: pathlib.Path) -> str:
  return page.stem


def with_any(table: dict) -> list[pathlib.Path]:
  """The pages that have a command of the table."""
  return [page for page in PAGES if set(documents.commands(page)) & set(table)]


def repeated(page: pathlib.Path) -> set[str]:
  """The commands that an earlier page has as well."""
  earlier = PAGES[: PAGES.index(page)]
  return {command for p in earlier for command in documents.commands(p)}


@pytest.fixture(autouse=True)
def in_the_checkout(monkeypatch):
  monkeypatch.chdir(ROOT)


@pytest.fixture
def checkout(tmp_path):
  """A folder like a checkout, with the files that the documents mention."""
  for name in ('nfnets', 'experiments', 'tests'):
    (tmp_path / name).symlink_to(ROOT / name)
  (tmp_path / 'tmp').mkdir()
  photos = pathlib.Path(sklearn.datasets.__file__).parent / 'images'
  shutil.copy(photos / 'china.jpg', tmp_path / 'photo.jpg')
  for part in ('train', 'val'):
    for name in ('china', 'flower'):
      folder = tmp_path / 'pictures' / part / name
      folder.mkdir(parents=True)
      for number in range(2):
        shutil.copy(photos / f'{name}.jpg', folder / f'{number}.jpg')
  params = zeros(models.create_model(documented.SMALL))
  weights.save(
    tmp_path / 'F0_haiku.npz', params, {}, documented.SMALL, 'deepmind'
  )
  # A download of the hub, as its client keeps it.
  hub = tmp_path / 'hub' / f'models--{documented.HUB_ID.replace("/", "--")}'
  commit = '0' * 40
  (hub / 'snapshots' / commit).mkdir(parents=True)
  (hub / 'refs').mkdir()
  (hub / 'refs' / 'main').write_text(commit)
  file = hub / 'snapshots' / commit / 'model.safetensors'
  weights.save(file, params, {}, documented.SMALL, 'timm')
  save_run(tmp_path / 'runs' / 'digits')
  return tmp_path


def zeros(model: models.Model) -> dict:
  """Parameters of a model's shapes."""
  images = jax.ShapeDtypeStruct((1, 64, 64, 3), 'float32')
  shapes, _ = jax.eval_shape(model.init, jax.random.key(0), images)
  return jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)


def save_run(workdir: pathlib.Path) -> None:
  """Writes what `convert` reads of a run of the tiny network on the digits."""
  config, _ = command_line.parse_config(
    ['--config=experiments/digits.py', *documented.TINY]
  )
  settings = config_lib.flatten(config)
  options = {k: v for k, v in config.model.items() if v is not None}
  params = zeros(models.create_model(options.pop('name'), 10, **options))
  checkpoints = checkpoint.Checkpointer(
    workdir / 'checkpoints', config=settings
  )
  saved = {'params': params, 'state': {}, 'ema_params': params}
  checkpoints.save(1, saved)
  checkpoints.close()


def run_python(checkout: pathlib.Path, *arguments: str) -> None:
  """Runs Python in the checkout, offline."""
  hub = {'HF_HUB_OFFLINE': '1', 'HF_HUB_CACHE': str(checkout / 'hub')}
  done = subprocess.run(
    [sys.executable, *arguments],
    cwd=checkout,
    env=os.environ | hub,
    stdin=subprocess.DEVNULL,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    timeout=600,
  )
  assert done.returncode == 0, f'{shlex.join(arguments)}:\n{done.stdout}'


def run_commands(
  checkout: pathlib.Path, page: pathlib.Path, table: dict[str, tuple[str, ...]]
) -> None:
  """Runs those commands of a page that are in the table, in their order."""
  for command in documents.commands(page):
    if command in table:
      local = re.sub(r'(?<!\w)/(pictures|tmp)\b', rf'{checkout}/\1', command)
      run_python(checkout, *shlex.split(local)[1:], *table[command])


@pytest.mark.parametrize('page', with_any(documented.RUN), ids=name_of)
def test_commands_run(checkout, page):
  done = repeated(page)
  run_commands(
    checkout, page, {k: v for k, v in documented.RUN.items() if k not in done}
  )


@pytest.mark.slow
@pytest.mark.parametrize('page', with_any(documented.RUN_SLOWLY), ids=name_of)
def test_longer_commands_run(checkout, page):
  if page.stem == 'training':
    shutil.rmtree(checkout / 'runs')  # Its first command creates the run.
  run_commands(checkout, page, documented.RUN | documented.RUN_SLOWLY)


@pytest.mark.parametrize(
  'page',
  [
    pytest.param(page, marks=[pytest.mark.slow] * (page.stem == 'performance'))
    for page in PAGES
    if documents.fences(page, 'python') and page.stem != 'pictures'
  ],
  ids=name_of,
)
def test_snippets_run(checkout, page):
  text = '\n'.join(documents.fences(page, 'python'))
  for large, small in documented.REPLACEMENTS.items():
    text = text.replace(large, small)
  if 'digits.stablehlo' in text:
    command = 'nfnets.convert runs/digits digits.stablehlo --to=stablehlo'
    run_python(checkout, '-m', *command.split())
  run_python(checkout, '-c', text)


@pytest.mark.parametrize('command', OURS)
def test_command_is_parsed(command):
  config = documents.parse(command)
  needs_imagenet = config is not None and config.dataset == 'imagenet2012'
  if not needs_imagenet and '--weights=F0_haiku.npz' not in command:
    assert any(
      command in table
      for table in (
        documented.RUN,
        documented.RUN_SLOWLY,
        documented.JOURNEY,
        documented.ONLY_PARSED,
      )
    )


def test_every_command_has_a_group():
  tables = (
    documented.RUN,
    documented.RUN_SLOWLY,
    documented.JOURNEY,
    documented.ONLY_PARSED,
    documented.NOT_RUN,
  )
  listed = [command for table in tables for command in table]
  assert len(set(listed)) == len(listed)
  assert set(listed) <= set(COMMANDS), 'not in the documents'
  assert set(COMMANDS) - set(OURS) == set(documented.NOT_RUN)


@pytest.mark.parametrize('page', PAGES, ids=name_of)
def test_fences_have_a_known_language(page):
  assert page.read_text().count('```') == 2 * sum(
    len(documents.fences(page, language)) for language in documents.LANGUAGES
  )


@pytest.mark.parametrize('page', [*PAGES, ROOT / 'CHANGELOG.md'], ids=name_of)
def test_links_resolve(page):
  for link in documents.links(page):
    target, _, anchor = link.partition('#')
    if not target.startswith('http'):
      file = page.parent / target if target else page
      assert file.is_file(), link
      assert not anchor or anchor in documents.anchors(file), link


@pytest.mark.parametrize('page', PAGES, ids=name_of)
def test_files_exist(page):
  for path in PATH.findall(page.read_text()):
    assert (ROOT / path).exists(), path


def test_variants_exist():
  for span in SPANS:
    match = re.fullmatch(r'(?:experiments/)?(\w+\.py:[\w+]+)', span)
    if match:
      config = f'--config=experiments/{match[1]}'
      command_line.parse_config([config, '--config.dataset=digits'])


def test_names_exist():
  named = re.compile(
    r'(?:nfnets\.|(?=(?:errors|models|weights)\.))(\w+(?:\.\w+)*)(?:\(\))?'
  )
  for span in SPANS:
    if match := named.fullmatch(span):
      owner, _, name = f'nfnets.{match[1]}'.rpartition('.')
      if not hasattr(importlib.import_module(owner), name):
        importlib.import_module(f'{owner}.{name}')


def test_options_exist():
  known = set(documented.FOREIGN_OPTIONS)
  for line in COMMANDS + SPANS:
    module = re.search(r'python -m (nfnets(?:\.[a-z_]+)+)', line)
    if module:
      options = documents.options(module[1])
      assert documents.options_in(line) <= options, line
      known |= options
  for span in SPANS:
    if span.startswith('--'):
      assert documents.options_in(span) <= known, span


def test_settings_exist():
  known = set(config_lib.flatten(config_lib.base()))
  sections = '|'.join({key.split('.')[0] for key in known if '.' in key})
  for span in SPANS:
    for key in re.findall(r'--config\.([\w.]+)', span):
      assert key == 'key' or key in known, span
    file = span.endswith(('.json', '.safetensors'))
    if re.fullmatch(rf'({sections})\.\w+', span) and not file:
      assert span in known, span
