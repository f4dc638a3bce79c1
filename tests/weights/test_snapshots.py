import json

import pytest

from nfnets import errors, weights
from nfnets.weights import snapshots, sources
from tests.weights import tiny


def write(folder, config):
  tiny.save(folder / 'model.safetensors', 'timm')
  if config is not None:
    text = config if isinstance(config, str) else json.dumps(config)
    (folder / 'config.json').write_text(text)


NAMES = list('abcdefghij')


@pytest.mark.parametrize(
  ('config', 'name', 'class_names'),
  [
    ({'architecture': 'dm_nfnet_f0'}, 'nfnet_f0', ()),
    (
      {
        'architecture': 'dm_nfnet_f0',
        'pretrained_cfg': {'label_names': NAMES},
      },
      'nfnet_f0',
      tuple(NAMES),
    ),
    ({'label_names': NAMES}, None, tuple(NAMES)),
    ({'architecture': 7, 'label_names': 'cat', 'pretrained_cfg': 1}, None, ()),
    ([], None, ()),
    (None, None, ()),
  ],
)
def test_a_folder_of_the_hub(tmp_path, config, name, class_names):
  write(tmp_path, config)
  source = sources.read(tmp_path)
  assert source.layout == 'timm'
  assert (source.name, source.class_names) == (name, class_names)
  assert source.path == str(tmp_path)


def test_a_folder_of_the_hub_loads(tmp_path):
  write(tmp_path, {'architecture': 'dm_nfnet_f0', 'label_names': NAMES})
  loaded = weights.load_model(tmp_path, **tiny.OPTIONS)
  assert loaded.class_names == tuple(NAMES)
  assert loaded.model.config.name == 'nfnet_f0'


def test_damaged_and_divided_folders(tmp_path):
  write(tmp_path, '{"architecture"')
  with pytest.raises(errors.UserError, match='config.json: is not readable'):
    sources.read(tmp_path)
  (tmp_path / 'model.safetensors').rename(
    tmp_path / 'model.safetensors.index.json'
  )
  with pytest.raises(errors.UserError, match='in several files'):
    sources.read(tmp_path)
  assert snapshots.read(tmp_path.parent) is None
