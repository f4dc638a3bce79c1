"""Every experiment file and variant: it loads, and its texts are right."""

import pathlib
import re

import pytest

from nfnets import models
from nfnets.experiment import command_line, variants

ROOT = pathlib.Path(__file__).parent.parent
FILES = sorted((ROOT / 'experiments').glob('*.py'))
# Those that a user passes to --config.
VALUES = [
  value
  for path in FILES
  for value in [str(path)] + [f'{path}:{v}' for v in variants.read(path).names]
]
RESULTS = (ROOT / 'docs' / 'results.md').read_text()


def load(value):
  # Some files leave the name of the data set to the user.
  arguments = [f'--config={value}', '--config.dataset=digits']
  return command_line.parse_config(arguments)[0]


@pytest.mark.parametrize('value', VALUES, ids=lambda v: v.rpartition('/')[2])
def test_experiment(value):
  assert load(value).model.name in models.list_models()


def test_there_are_at_most_twenty_files():
  assert len(FILES) <= 20


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_head(path):
  head = path.read_text().split('"""')[1]
  assert f'--config=experiments/{path.name}' in head
  for name in re.findall(r'[\w/]+\.(?:py|md)\b', head):
    assert any((folder / name).is_file() for folder in (ROOT, path.parent)), (
      name
    )


def test_each_variant_is_another_model():
  for path in FILES:
    names = variants.read(path).names
    found = [load(f'{path}:{v}').model for v in names]
    assert len({str(model) for model in found}) == len(names)
    # Two sizes of one network.
    if path.name != 'small_data.py':
      assert len({model.name for model in found}) == len(names)


@pytest.mark.parametrize(
  'value, name',
  [
    *[(f'nfnet_f{i}.py', f'nfnet_f{i}') for i in range(8)],
    ('nfnet_plus.py:f7', 'nfnet_f7+'),
    ('nfnet_sam.py:f5', 'nfnet_f5'),
    ('nf_regnet.py:b8', 'nf_regnet_b8'),
    ('nf_resnet_agc.py:152', 'nf_resnet152'),
    ('resnet.py:50', 'resnet50'),
    ('pretrain.py:nfnet_f4+', 'nfnet_f4+'),
  ],
)
def test_model_of_a_file(value, name):
  assert load(ROOT / 'experiments' / value).model.name == name


@pytest.mark.parametrize(
  'variant, epochs, batch_size, decay',
  [
    ('nf_resnet50', 10, 1024, 1e-5),
    ('nfnet_f4', 40, 4096, 1e-6),
    ('nfnet_f4+', 20, 4096, 1e-6),
  ],
)
def test_pretraining_as_in_appendix_a5(variant, epochs, batch_size, decay):
  config = load(f'{ROOT}/experiments/pretrain.py:{variant}')
  assert config.train.epochs == epochs
  assert config.train.batch_size == batch_size
  assert config.optimizer.weight_decay == decay


def test_only_files_for_your_own_pictures_scale_with_the_image_size():
  relative, eval_presets = set(), {}
  for value in VALUES:
    config, name = load(value), value.rpartition('/')[2].partition(':')[0]
    if config.augment.randaugment_relative:
      relative.add(name)
    eval_presets[name] = config.data.eval_preset
  own = {'finetune.py', 'small_data.py'}
  assert relative == own
  timm = {name for name in eval_presets if eval_presets[name] == 'timm'}
  assert {name for name in timm if not name.startswith('cifar')} == own | {
    'digits.py'
  }


def test_the_table_of_results_has_the_right_files_and_sizes():
  rows = re.findall(
    r'^\| `(\w+\.py)(:\w+\+?)?` \| (\d+) / (\d+) ', RESULTS, re.M
  )
  assert len(rows) > 20
  for file, variant, train_size, test_size in rows:
    config = load(f'{ROOT}/experiments/{file}{variant}')
    model = models.create_model(config.model.name).config
    assert (config.data.image_size or model.train_size) == int(train_size)
    assert (config.data.eval_size or model.test_size) == int(test_size)
