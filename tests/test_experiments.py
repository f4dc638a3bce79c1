"""Every experiment file: it loads, its model exists, its head says enough."""

import pathlib

import pytest

from nfnets import models
from nfnets.experiment import command_line

FILES = sorted(
  (pathlib.Path(__file__).parent.parent / 'experiments').glob('*.py')
)


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_experiment(path):
  # The name of one's own data set is for the user to give.
  config, _ = command_line.parse_config(
    [f'--config={path}', '--config.dataset=digits']
  )
  assert config.model.name in models.list_models()
  head = path.read_text().split('"""')[1]
  assert f'--config=experiments/{path.name}' in head


@pytest.mark.parametrize(
  'stem', [f'nfnet_f{i}' for i in range(8)] + ['nfnet_f0plus', 'nfnet_f7plus']
)
def test_file_name_is_the_model(stem):
  path = next(p for p in FILES if p.stem == stem)
  config, _ = command_line.parse_config([f'--config={path}'])
  assert config.model.name == stem.replace('plus', '+')
