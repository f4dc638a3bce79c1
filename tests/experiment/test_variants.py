"""The variants of a file, read from its source."""

import pathlib

import pytest

from nfnets import errors
from nfnets.experiment import variants


def write(folder, text, name='net.py'):
  path = folder / name
  path.write_text(text)
  return path


@pytest.mark.parametrize(
  'text, expected',
  [
    (
      "VARIANTS = ('a', 'b')\ndef get_config(variant='b'):\n  1 / 0\n",
      variants.Declared(('a', 'b'), 'b', True),
    ),
    (
      "VARIANTS = {'a': 1}\ndef get_config(variant):\n  pass\n",
      variants.Declared(('a',), None, True),
    ),
    (
      "VARIANTS = ('a',)\ndef get_config(variant='c'):\n  pass\n",
      variants.Declared(('a',), None, True),
    ),
    (
      'VARIANTS = tuple(NAMES)\ndef get_config(variant):\n  pass\n',
      variants.Declared((), None, True),
    ),
    ('def get_config():\n  pass\n', variants.Declared((), None, False)),
    ('def get_config(:\n', variants.Declared((), None, True)),
  ],
)
def test_read_runs_nothing(tmp_path, text, expected):
  assert variants.read(write(tmp_path, text)) == expected


def test_a_missing_variant_is_an_error_without_a_default(tmp_path):
  text = "VARIANTS = ('a', 'b')\ndef get_config(variant):\n  pass\n"
  path = write(tmp_path, text)
  with pytest.raises(errors.UserError, match='net.py:VARIANT .* a, b'):
    variants.resolve(path, None)
  assert variants.resolve(path, 'a').run_name == 'net_a'


@pytest.mark.parametrize(
  'variant, name',
  [
    (None, 'net'),
    ('f4+', 'net_f4+'),
    ('../x y', 'net_.._x_y'),
    ('a/b:c', 'net_a_b_c'),
  ],
)
def test_run_names_are_safe_for_a_folder(variant, name):
  choice = variants.Choice(pathlib.Path('some/net.py'), variant)
  assert choice.run_name == name


def test_describe_and_closest(tmp_path):
  write(tmp_path, 'def get_config():\n  pass\n', 'plain.py')
  path = write(tmp_path, "VARIANTS = ('a1', 'b2')\n")
  assert variants.describe(tmp_path) == [f'{path}: a1, b2']
  assert variants.closest(tmp_path / 'net_b2.py') == f'{path}:b2'
  assert variants.closest(tmp_path / 'plan.py') == str(tmp_path / 'plain.py')
  assert variants.closest(tmp_path / 'unlike') is None
  assert variants.closest(tmp_path / 'nowhere' / 'net.py') is None
