"""Style, held by tools where one exists and by reading the source elsewhere.

Ruff checks that public names have docstrings.
"""

import functools
import pathlib
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest

from tests import source

ROOT, PACKAGE = source.ROOT, source.FILES
EXPERIMENTS = sorted((ROOT / 'experiments').rglob('*.py'))
# Everything that users and readers of the code meet, except this file, which
# lists the words.
PROSE = [
  ROOT / 'README.md',
  ROOT / 'CHANGELOG.md',
  ROOT / 'run.sh',
  *sorted((ROOT / 'docs').rglob('*.md')),
  *sorted((ROOT / 'docs').rglob('*.ipynb')),
  *sorted((ROOT / 'tests').rglob('*.md')),
  *PACKAGE,
  *EXPERIMENTS,
  *sorted(set((ROOT / 'tests').rglob('*.py')) - {pathlib.Path(__file__)}),
]

MAX_FILE_LINES = 300
MAX_BODY_LINES = 40
MAX_FUNCTION_LINES = 45
MAX_AGC_LINES = 150
MAX_README_LINES = 200
MAX_EXPERIMENTS = 20

# Paths on one machine and loose ends: not allowed in any file.
FORBIDDEN = re.compile(
  r'(?<![\w.~:/-])/(home|root|Users|work|opt|mnt|srv)/\w'
  r'|\b(TODO|FIXME|XXX)\b'
  r'|^(<{7}|>{7}) '
)
# Sites that documents and source may link to.
SITES = {
  'arxiv.org',
  'git-lfs.github.com',
  'github.com',
  'huggingface.co',
  'keepachangelog.com',
  'scikit-learn.org',
  'semver.org',
  'storage.googleapis.com',
  'www.apache.org',
  'www.image-net.org',
  'www.w3.org',
  'image-net.org',
}

# British spellings, as regular expressions of whole words.
BRITISH = (
  '(initial|normal|standard|synchron|optim|regular|summar|general|special'
  '|recogn|serial|material|visual|random|quant|vector|minim|maxim|util|organ'
  '|parallel|local|character|penal|equal|final|memor|custom|categor|stabil'
  '|priorit|discret|token|factor|emphas|real)is(e|ed|es|er|ers|ing|ation|ations)',
  '(un|pre)?label(led|ling)',
  '(re)?model(led|ling)',
  '(un)?colour(s|ed|ing|ful)?',
  '(mis)?behaviours?',
  'neighbour(s|ing|hood)?',
  'favour(s|ed|ite|able)?',
  'cent(re|res|red|ring)',
  'analys(e|ed|ing)',
  'grey(s|scale)?',
  'artefacts?',
  'licence[sd]?',
  'whilst',
)
# Words and phrases that no native engineer would write.
TRANSLATED = (
  'mend(s|ed|ing)?',
  'anew',
  'borne',
  'thereof',
  'likeliest',
  'dead-lock(s|ed)?',
  'to the bit',
  'worked through',
  'what there is',
  '(do|does|did|doing) without',
  '(is|are|was|were) asked for',
  '(go|goes|going|went|gone) on from',
)

_AUTHORS = r'[A-Z][\w-]*(?: [A-Z][\w-]*| and [A-Z][\w-]*)*(?: et al)?'
_TITLE = r'(?:`[^`<>]+ <https://[^<>\s]+>`_|`[^`<>]+`)'
_REFERENCE = rf'{_AUTHORS}, {_TITLE}, \d{{4}}(?:, [^`]+?| \([^`]+?\))?\.'
REFERENCES = re.compile(rf'{_REFERENCE}(?: {_REFERENCE})*')


def words(expressions: tuple[str, ...]) -> re.Pattern[str]:
  """Matches whole words, in names and across line breaks too."""
  spaced = '|'.join(expressions).replace(' ', r'[\s#]+')
  return re.compile(rf'(?<![a-z])({spaced})(?![a-z])', re.IGNORECASE)


def relative(path: pathlib.Path) -> str:
  return str(path.relative_to(ROOT))


def found(pattern: re.Pattern[str], paths: list[pathlib.Path]) -> list[str]:
  """Returns 'file:line match' for each match in the files.

  Code spans in Markdown do not count: CHANGELOG.md lists old names in them.
  """
  hits = []
  for path in paths:
    text = path.read_text()
    if path.suffix == '.md':
      text = re.sub(r'`[^`\n]*`', '', text)
    for match in pattern.finditer(text):
      line = text.count('\n', 0, match.start()) + 1
      hits.append(f'{relative(path)}:{line} {match[0]!r}')
  return hits


@functools.cache
def tracked() -> list[pathlib.Path]:
  """Returns the files under version control."""
  if shutil.which('git') is None or not (ROOT / '.git').exists():
    pytest.skip('not a git checkout')
  names = subprocess.check_output(
    ['git', 'ls-files', '-z'], cwd=ROOT, text=True
  )
  return [ROOT / name for name in names.split('\0') if name]


def run_tool(*args: str):
  run = subprocess.run(
    [sys.executable, '-m', *args], cwd=ROOT, capture_output=True, text=True
  )
  assert run.returncode == 0, run.stdout + run.stderr


def test_ruff():
  run_tool('ruff', 'check', '.')


def test_ruff_format():
  run_tool('ruff', 'format', '--check', '.')


@pytest.mark.skipif(
  np.lib.NumpyVersion(np.__version__) < '2.4.0',
  reason="older stubs of NumPy disagree with today's",
)
def test_mypy():
  run_tool('mypy', 'nfnets')


def test_files_have_at_most_300_lines():
  paths = [*PACKAGE, *EXPERIMENTS, *(ROOT / 'tests').rglob('*.py')]
  lengths = {relative(p): len(p.read_text().splitlines()) for p in paths}
  assert not {p: n for p, n in lengths.items() if n > MAX_FILE_LINES}


def test_functions_fit_on_a_screen():
  long = [
    f'{relative(path)}:{function.lineno} {function.name}'
    for path in PACKAGE
    for function in source.functions(path)
    if source.body_lines(path, function) > MAX_BODY_LINES
    or source.function_lines(function) > MAX_FUNCTION_LINES
  ]
  assert not long, '\n'.join(long)


def test_agc_reads_as_its_equation():
  text = (ROOT / 'nfnets/optim/agc.py').read_text()
  assert len(text.splitlines()) <= MAX_AGC_LINES
  assert not re.findall(r'jax\.jit|optimization_barrier|custom_vjp', text)


def test_readme_is_short():
  lines = (ROOT / 'README.md').read_text().splitlines()
  assert len(lines) <= MAX_README_LINES


def test_experiments_are_few():
  assert len(EXPERIMENTS) <= MAX_EXPERIMENTS


def test_every_argument_and_result_is_annotated():
  bare = []
  for path in PACKAGE:
    for function in source.functions(path):
      arguments = function.args
      named = [
        *arguments.posonlyargs,
        *arguments.args,
        *arguments.kwonlyargs,
        *filter(None, (arguments.vararg, arguments.kwarg)),
      ]
      missing = [
        argument.arg
        for argument in named
        if argument.annotation is None and argument.arg not in ('self', 'cls')
      ]
      untyped = function.returns is None and function.name != '__init__'
      if missing or untyped:
        bare.append(f'{relative(path)}:{function.lineno}')
  assert not bare


def test_spelling_is_american():
  hits = found(words(BRITISH), PROSE)
  assert not hits, '\n'.join(hits)


def test_prose_is_plain_english():
  hits = found(words(TRANSLATED), PROSE)
  assert not hits, '\n'.join(hits)


@pytest.mark.parametrize(
  'text', ['Colour', 'made anew', 'goes on\n  # from 3', 'normalised_images']
)
def test_words_are_found(text):
  assert words(BRITISH + TRANSLATED).search(text)


@pytest.mark.parametrize(
  'text', ['recommended', 'airborne', 'goes on', 'optimism', 'center', 'newer']
)
def test_other_words_are_not(text):
  assert not words(BRITISH + TRANSLATED).search(text)


def test_no_argument_is_described_by_a_fragment():
  fragments = found(re.compile(r'^ +\w+: of\s.*', re.MULTILINE), PACKAGE)
  assert not fragments, '\n'.join(fragments)


def test_references_have_one_form():
  other = []
  for path in PACKAGE:
    for text in source.docstrings(path):
      _, heading, section = text.partition('References:\n')
      entries = ' '.join(section.split())
      if heading and not REFERENCES.fullmatch(entries):
        other.append(f'{relative(path)}: {entries}')
  assert not other, '\n'.join(other)


def test_no_machine_and_no_loose_end_in_any_file():
  hits = []
  for path in tracked():
    try:
      lines = path.read_text().splitlines()
    except UnicodeDecodeError:
      continue
    if path == pathlib.Path(__file__):
      continue
    hits += [
      f'{relative(path)}:{number} {line.strip()[:80]}'
      for number, line in enumerate(lines, 1)
      if FORBIDDEN.search(line)
    ]
  assert not hits, '\n'.join(hits)


def test_every_site_is_a_known_one():
  sites = set()
  for path in tracked():
    try:
      text = path.read_text()
    except UnicodeDecodeError:
      continue
    sites.update(re.findall(r'https?://([\w.-]+)', text))
  assert sites <= SITES
