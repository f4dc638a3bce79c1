"""A platform that is not there: one line that names it."""

import logging
import os
import subprocess
import sys

import jax
import pytest

from nfnets import errors
from nfnets.runtime import platforms


def error_of(monkeypatch, error):
  def fail():
    raise error

  monkeypatch.setattr(jax, 'devices', fail)
  with pytest.raises(errors.UserError) as caught:
    platforms.check()
  assert '\n' not in str(caught.value)
  return str(caught.value)


def test_a_platform_that_starts():
  platforms.check()


def test_a_gpu_that_is_not_there(monkeypatch):
  """What JAX raises for JAX_PLATFORMS=cuda without a GPU."""
  monkeypatch.setenv('JAX_PLATFORMS', 'cuda')
  message = error_of(monkeypatch, AssertionError())
  assert message.startswith(
    'JAX_PLATFORMS=cuda cannot be used here (no such device): unset it'
  )
  assert 'NFNETS_PLATFORM=cuda12 ./run.sh setup' in message


def test_a_plugin_that_fails(monkeypatch):
  monkeypatch.delenv('JAX_PLATFORMS', raising=False)
  monkeypatch.delenv('JAX_PLATFORM_NAME', raising=False)
  advice = (
    ' (you may need to uninstall the failing plugin package, or set'
    ' JAX_PLATFORMS=cpu to skip this backend.)'
  )
  message = error_of(
    monkeypatch, RuntimeError(f'cuda: no driver (535).{advice}\nmore')
  )
  assert message.startswith('JAX cannot start (cuda: no driver (535)): fix')


def plugin_fails():
  """Logs what JAX logs if the driver is missing."""
  try:
    raise RuntimeError('cuInit(0) failed\nmore')
  except RuntimeError:
    logging.getLogger('jax._src.xla_bridge').exception('plugin xla_cuda12')


def test_a_plugin_without_its_driver(monkeypatch, caplog):
  """With JAX_PLATFORMS=cuda, then with the CPU in its place."""
  monkeypatch.setenv('JAX_PLATFORMS', 'cuda')
  start = jax.devices

  def fail():
    plugin_fails()
    raise AssertionError

  monkeypatch.setattr(jax, 'devices', fail)
  with pytest.raises(errors.UserError) as caught:
    platforms.check()
  assert str(caught.value).startswith(
    'JAX_PLATFORMS=cuda cannot be used here (plugin xla_cuda12: cuInit(0)'
    ' failed): unset it'
  )
  assert not caplog.records
  monkeypatch.setattr(jax, 'devices', lambda: (plugin_fails(), start())[1])
  platforms.check()
  (record,) = caplog.records
  assert record.exc_info is None
  backend = jax.default_backend()
  assert record.getMessage() == (
    f'plugin xla_cuda12: cuInit(0) failed: using {backend} instead'
  )


def test_an_older_variable(monkeypatch):
  monkeypatch.delenv('JAX_PLATFORMS', raising=False)
  monkeypatch.setenv('JAX_PLATFORM_NAME', 'cuda')
  message = error_of(monkeypatch, RuntimeError('Unknown backend cuda'))
  assert message.startswith('JAX_PLATFORM_NAME=cuda cannot be used here (Unk')


# Each command as far as it uses JAX.
COMMANDS = {
  'experiment': ('--config=experiments/digits.py', '--workdir={}/run'),
  'augment': ('--config=experiments/digits.py', '--out={}/grid.png'),
  'benchmark': ('nfnet_f0',),
  'predict': ('--weights={}/none', 'tests/golden/README.md'),
  'convert': ('{}/none', '{}/file', '--to=timm'),
  'studies.recipe': ('--out={}', '--seeds=1', '--only=nothing'),
}


@pytest.mark.parametrize(
  'command',
  [
    'convert',
    *(
      pytest.param(name, marks=pytest.mark.slow)
      for name in COMMANDS
      if name != 'convert'
    ),
  ],
)
def test_commands_report_an_unknown_platform(tmp_path, command, request):
  words = [word.replace('{}', str(tmp_path)) for word in COMMANDS[command]]
  run = subprocess.run(
    [sys.executable, '-m', f'nfnets.{command}', *words],
    cwd=request.config.rootpath,
    env=os.environ | {'JAX_PLATFORMS': 'nonsense'},
    capture_output=True,
    text=True,
  )
  assert run.returncode == 1
  assert 'error: JAX_PLATFORMS=nonsense cannot be used here (' in run.stderr
  assert "'nonsense' is not in the list of known backends" in run.stderr
  assert len(run.stderr.splitlines()) == 1
