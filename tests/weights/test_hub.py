"""Hub ids and downloads, without a network."""

import os
import subprocess
import sys
import urllib.error
import urllib.request

import huggingface_hub
import pytest
from huggingface_hub import errors as hub_errors

from nfnets import errors
from nfnets.weights import hub

_ID = 'timm/dm_nfnet_f0.dm_in1k'


@pytest.mark.parametrize(
  ('name', 'model'),
  [
    (_ID, 'dm_nfnet_f0'),
    ('timm/nfnet_l0', 'nfnet_l0'),
    ('hf-hub:owner/my_model.tag', 'my_model'),
    ('hf_hub:owner/my_model.tag', 'my_model'),
    ('owner/my_model.tag', None),
    ('hf-hub:my_model', None),
    ('timm/a/b', None),
    ('F0_haiku.npz', None),
  ],
)
def test_model_name(name, model):
  assert hub.model_name(name) == model


class _Hub:
  """Stands in for `huggingface_hub.hf_hub_download`."""

  def __init__(self, cached, error=None):
    self.cached = cached
    self.error = error
    self.calls = []

  def __call__(self, repository, filename, local_files_only):
    self.calls.append((repository, filename, local_files_only))
    if local_files_only and not self.cached:
      raise hub_errors.LocalEntryNotFoundError('not cached')
    if self.error:
      raise self.error
    return '/cache/model.safetensors'


@pytest.fixture
def connect(monkeypatch):
  """Replaces the connection attempt and returns the list of its timeouts."""
  timeouts = []

  def set_result(error):
    def urlopen(request, timeout):
      assert request.get_method() == 'HEAD'
      timeouts.append(timeout)
      raise error

    monkeypatch.setattr(urllib.request, 'urlopen', urlopen)
    return timeouts

  return set_result


_REACHABLE = urllib.error.HTTPError('url', 403, 'Forbidden', None, None)


def test_cached_file_needs_no_network(monkeypatch, connect):
  timeouts = connect(AssertionError('used the network'))
  download = _Hub(cached=True)
  monkeypatch.setattr(huggingface_hub, 'hf_hub_download', download)
  path = hub.fetch(_ID)
  assert str(path) == '/cache/model.safetensors'
  assert download.calls == [(_ID, 'model.safetensors', True)]
  assert not timeouts


def test_downloads_once_the_hub_answers(monkeypatch, connect):
  timeouts = connect(_REACHABLE)
  download = _Hub(cached=False)
  monkeypatch.setattr(huggingface_hub, 'hf_hub_download', download)
  hub.fetch('hf-hub:owner/model.tag')
  assert download.calls == [
    ('owner/model.tag', 'model.safetensors', True),
    ('owner/model.tag', 'model.safetensors', False),
  ]
  assert timeouts == [10.0]


def test_no_network_fails_before_the_download(monkeypatch, connect):
  connect(urllib.error.URLError('no route'))
  download = _Hub(cached=False)
  monkeypatch.setattr(huggingface_hub, 'hf_hub_download', download)
  with pytest.raises(errors.UserError, match='timm/dm_nfnet_f0.*no route'):
    hub.fetch(_ID)
  assert len(download.calls) == 1


def test_failed_download_is_one_line(monkeypatch, connect):
  connect(_REACHABLE)
  download = _Hub(cached=False, error=OSError('404: not found\nDetails'))
  monkeypatch.setattr(huggingface_hub, 'hf_hub_download', download)
  with pytest.raises(errors.UserError) as raised:
    hub.fetch(_ID)
  assert '(404: not found)' in str(raised.value)
  assert '\n' not in str(raised.value)


@pytest.mark.parametrize('value', ['1', 'ON', 'true'])
def test_offline_mode_is_believed(tmp_path, value):
  code = (
    'import urllib.request\n'
    'from nfnets.weights import hub\n'
    'urllib.request.urlopen = None\n'
    f'hub.fetch({_ID!r})\n'
  )
  env = {**os.environ, 'HF_HUB_OFFLINE': value, 'HF_HOME': str(tmp_path)}
  done = subprocess.run(
    [sys.executable, '-c', code], env=env, capture_output=True, text=True
  )
  last = done.stderr.splitlines()[-1]
  assert 'UserError' in last and '(HF_HUB_OFFLINE is set)' in last, done.stderr


def test_the_error_has_the_address_of_the_file(monkeypatch, connect):
  connect(urllib.error.URLError('no route'))
  monkeypatch.setattr(huggingface_hub, 'hf_hub_download', _Hub(cached=False))
  address = f'https://huggingface.co/{_ID}/resolve/main/model.safetensors'
  with pytest.raises(errors.UserError, match=f'{address}.*init_from=FILE'):
    hub.fetch(_ID)


def test_fetch_requires_a_hub_id():
  with pytest.raises(ValueError, match="'F0_haiku.npz' is not a hub id"):
    hub.fetch('F0_haiku.npz')
