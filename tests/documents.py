"""Reads README.md and docs/: their commands, snippets, names and options."""

import argparse
import importlib
import pathlib
import re
import shlex
import sys

import ml_collections
import pytest

from nfnets.experiment import command_line

ROOT = pathlib.Path(__file__).parent.parent
PAGES = [ROOT / 'README.md', *sorted((ROOT / 'docs').glob('*.md'))]

_FENCE = re.compile(r'^```(\w*)\n(.*?)^```$', re.MULTILINE | re.DOTALL)
LANGUAGES = {'sh', 'console', 'python', 'text'}

# python -m NAME -> the module that has its `main`, if not NAME or its __main__.
_MAINS = {'nfnets.augment': 'nfnets.experiment.preview'}
# Programs that read --config and --config.key=value besides their options.
_CONFIGURED = {
  *('nfnets.experiment', 'nfnets.augment', 'nfnets.studies.recipe'),
}


def fences(page: pathlib.Path, language: str) -> list[str]:
  """The fenced blocks in a language."""
  blocks = _FENCE.findall(page.read_text())
  return [text for kind, text in blocks if kind == language]


def commands(page: pathlib.Path) -> list[str]:
  """The commands of a page, each on one line and without its comment."""
  blocks = fences(page, 'sh')
  for text in fences(page, 'console'):
    blocks += re.findall(r'^\$ (.*(?:\\\n.*)*)$', text, re.MULTILINE)
  lines = '\n'.join(blocks).replace('\\\n', ' ').splitlines()
  words = [shlex.split(line, comments=True) for line in lines]
  return [shlex.join(line) for line in words if line]


def spans(page: pathlib.Path) -> list[str]:
  """Inline code, each piece on one line."""
  prose = _FENCE.sub('', page.read_text())
  return [' '.join(span.split()) for span in re.findall('`([^`]+)`', prose)]


def links(page: pathlib.Path) -> list[str]:
  """The targets of a page's links."""
  return re.findall(r'\[[^\]]+\]\(([^)\s]+)\)', page.read_text())


def anchors(page: pathlib.Path) -> set[str]:
  """The anchors that GitHub gives a page's headings."""
  headings = re.findall(r'^#+ (.+)$', _FENCE.sub('', page.read_text()), re.M)
  return {
    re.sub(r'[^\w -]', '', heading.lower()).replace(' ', '-')
    for heading in headings
  }


class _Parsed(Exception):
  """Raised where a program would parse its arguments: (parser, arguments)."""


def _parser(module: str, *arguments: str) -> tuple:
  """Returns the parser of a program and the arguments that it would parse."""
  main = importlib.import_module(_MAINS.get(module, module))
  if not hasattr(main, 'main'):
    main = importlib.import_module(f'{module}.__main__')

  def stop(parser, args=None, namespace=None):
    raise _Parsed(parser, list(arguments) if args is None else args)

  with pytest.MonkeyPatch.context() as patch:
    patch.setattr(sys, 'argv', [module, *arguments])
    patch.setattr(argparse.ArgumentParser, 'parse_known_args', stop)
    with pytest.raises(_Parsed) as stopped:
      main.main()
  return stopped.value.args


def options(module: str) -> set[str]:
  """The options of a program and of its subcommand, without settings."""
  found = set(_parser(module)[0]._option_string_actions)
  if module == 'nfnets.benchmark':
    found |= set(_parser(module, 'data')[0]._option_string_actions)
  return found | ({'--config'} if module in _CONFIGURED else set())


def options_in(text: str) -> set[str]:
  """The options that a text mentions, without settings."""
  return set(re.findall(r'(?<![\w-])--[a-z][\w-]*(?![\w.-])', text))


def parse(command: str) -> ml_collections.ConfigDict | None:
  """Parses `python -m nfnets.NAME ...` as the program would.

  Returns:
    The settings, or None for programs without any.
  """
  module, *words = shlex.split(command)[2:]
  parser, arguments = _parser(module, *words)
  if module not in _CONFIGURED:
    parser.parse_args(arguments)
    return None
  settings = [x for x in arguments if x.startswith('--config')]
  if not any(x.startswith('--config=') for x in settings):
    # It takes the settings of a run, here those of the first command.
    settings = ['--config=experiments/digits.py', *settings]
  rest = [x for x in arguments if not x.startswith('--config')]
  assert not parser.parse_known_args(rest)[1], command
  return command_line.parse_config(settings)[0]
