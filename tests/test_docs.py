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
from tests import documents

ROOT, PAGES = documents.ROOT, documents.PAGES

# The smallest network with published weights stands in for the large ones.
SMALL = 'test_nfnet'
HUB_ID = 'timm/test_nfnet.r160_in1k'
REPLACEMENTS = {
  'timm/dm_nfnet_f0.dm_in1k': HUB_ID,
  "'nfnet_f0', 256, 32": f"'{SMALL}', 32, 2",
  "'nfnet_f0'": f"'{SMALL}'",
}
# As in tests/experiment/test_main.py, which leaves its programs in the cache.
TINY = (
  '--config.model.width=0.0625',
  '--config.model.group_size=8',
  '--config.model.depth=1,1,1,1',
  '--config.train.batch_size=96',
)
FEW_STEPS = (
  '--config.train.steps=12',
  '--config.optimizer.warmup_steps=2',
  '--config.eval.every_steps=4',
  '--config.checkpoint.every_steps=4',
  '--config.log.every_steps=2',
)
FINE_TUNING = (
  f'--config.model.name={SMALL}',
  f'--config.init_from={HUB_ID}',
  '--config.data.image_size=32',
  '--config.data.eval_size=32',
  '--config.data.eval_preset=timm',
  '--config.train.batch_size=2',
  '--config.train.dtype=float32',
  '--config.eval.batch_size=4',
  '--config.train.steps=1',
  '--config.optimizer.warmup_epochs=0',
)

# Every command of the documents is in one of these tables.
# Commands that run, on the first page that has them -> what makes them cheap.
RUN: dict[str, tuple[str, ...]] = {
  'python -m nfnets.experiment --config=experiments/digits.py'
  ' --config.train.epochs=5 --workdir=/tmp/short': (*TINY, *FEW_STEPS),
  'python -m nfnets.data folder:/pictures': (),
  'python -m nfnets.data digits --limit=100 --grid=digits.png': (),
  'python -m nfnets.convert runs/digits digits.safetensors --to=nfnets': (),
  'python -m nfnets.convert F0_haiku.npz f0.safetensors --to=timm': (),
  'python -m nfnets.predict --weights=digits.safetensors'
  ' photo.jpg /pictures': (),
}
# Commands that take longer: they run with -m slow.
RUN_SLOWLY: dict[str, tuple[str, ...]] = {
  'python -m nfnets.experiment --config=experiments/digits.py'
  ' --workdir=runs/digits': (*TINY, *FEW_STEPS),
  'python -m nfnets.experiment --config=experiments/digits.py'
  ' --workdir=runs/digits --mode=eval': TINY,
  'python -m nfnets.augment --config=experiments/digits.py --out=grid.png'
  ' --step=0': ('--count=2',),
  'python -m nfnets.experiment --config=experiments/finetune.py'
  ' --config.dataset=folder:/pictures': FINE_TUNING,
  'python -m nfnets.experiment --config=experiments/finetune.py'
  ' --config.dataset=folder:/pictures --config.freeze=true': FINE_TUNING,
  'python -m nfnets.experiment --config=experiments/digits.py'
  ' --config.train.steps=1 --config.train.epochs=0'
  ' --config.optimizer.warmup_epochs=0 --workdir=/tmp/second': TINY,
  'python -m nfnets.ablation --config=experiments/digits.py --seeds=3': (
    '--seeds=1',
    '--only=SAM',
    *TINY,
    *FEW_STEPS,
  ),
  'python -m nfnets.convert runs/digits digits.stablehlo --to=stablehlo': (),
  'python -m nfnets.predict --weights=digits.safetensors --json photo.jpg': (),
}
# Commands that are only parsed, besides all that need ImageNet -> the reason.
ONLY_PARSED = {
  'python -m nfnets.benchmark nfnet_f6 --size 64 --batch 1 --no-parts': (
    'compiles for a minute'
  ),
}
# Commands of other programs -> the reason why they do not run here.
NOT_RUN = {
  './run.sh': 'installs packages; test_run_sh.py runs it with stand-ins',
  './run.sh test': 'runs this suite',
  './run.sh test -m slow -n 0': 'runs the slow tests',
  'pip install -r requirements-peers.txt': 'downloads packages',
  'pip install --no-deps -r requirements-timm.txt': 'downloads packages',
}
# Options of other programs that the text mentions.
FOREIGN_OPTIONS = {'--logdir', '--no-deps'}

COMMANDS = sorted({c for page in PAGES for c in documents.commands(page)})
OURS = [c for c in COMMANDS if c.startswith('python -m nfnets.')]
SPANS = sorted({span for page in PAGES for span in documents.spans(page)})
FOLDERS = 'nfnets|experiments|docs|tests'
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
  params = zeros(models.create_model(SMALL))
  weights.save(tmp_path / 'F0_haiku.npz', params, {}, SMALL, 'deepmind')
  # A download of the hub, as its client keeps it.
  hub = tmp_path / 'hub' / f'models--{HUB_ID.replace("/", "--")}'
  commit = '0' * 40
  (hub / 'snapshots' / commit).mkdir(parents=True)
  (hub / 'refs').mkdir()
  (hub / 'refs' / 'main').write_text(commit)
  file = hub / 'snapshots' / commit / 'model.safetensors'
  weights.save(file, params, {}, SMALL, 'timm')
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
    ['--config=experiments/digits.py', *TINY]
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


@pytest.mark.parametrize('page', with_any(RUN), ids=name_of)
def test_commands_run(checkout, page):
  done = repeated(page)
  run_commands(checkout, page, {k: v for k, v in RUN.items() if k not in done})


@pytest.mark.slow
@pytest.mark.parametrize('page', with_any(RUN_SLOWLY), ids=name_of)
def test_longer_commands_run(checkout, page):
  if page.stem == 'training':
    shutil.rmtree(checkout / 'runs')  # Its first command creates the run.
  run_commands(checkout, page, RUN | RUN_SLOWLY)


@pytest.mark.parametrize(
  'page',
  [
    pytest.param(page, marks=[pytest.mark.slow] * (page.stem == 'performance'))
    for page in PAGES
    if documents.fences(page, 'python')
  ],
  ids=name_of,
)
def test_snippets_run(checkout, page):
  text = '\n'.join(documents.fences(page, 'python'))
  for large, small in REPLACEMENTS.items():
    text = text.replace(large, small)
  run_python(checkout, '-c', text)


@pytest.mark.parametrize('command', OURS)
def test_command_is_parsed(command):
  config = documents.parse(command)
  needs_imagenet = config is not None and config.dataset == 'imagenet2012'
  if not needs_imagenet and '--weights=F0_haiku.npz' not in command:
    assert command in RUN | RUN_SLOWLY | ONLY_PARSED


def test_every_command_has_a_group():
  tables = (RUN, RUN_SLOWLY, ONLY_PARSED, NOT_RUN)
  listed = [command for table in tables for command in table]
  assert len(set(listed)) == len(listed)
  assert set(listed) <= set(COMMANDS), 'not in the documents'
  assert set(COMMANDS) - set(OURS) == set(NOT_RUN)


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
  known = set(FOREIGN_OPTIONS)
  for line in COMMANDS + SPANS:
    module = re.search(r'python -m (nfnets\.[a-z]+)', line)
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
