import gc
import importlib.util
import os
import pathlib
import subprocess
import sys

import jax
import pytest

from nfnets.runtime import compilation

_PROGRAM = """
import jax, jax.numpy as jnp
from nfnets.runtime import compilation
hits = []
jax.monitoring.register_event_listener(
  lambda event, **_: hits.append(event) if event.endswith('cache_hits') else 0)
print(compilation.enable_compilation_cache())
jax.config.update('jax_persistent_cache_min_compile_time_secs', 0)
jax.jit(lambda x: jnp.sin(x) * 2)(jnp.ones(3)).block_until_ready()
print(len(hits))
"""

_CALL = """
import jax, jax.numpy as jnp
from nfnets.runtime import compilation
compilation.run_in_calling_thread()
x = jnp.ones((1000, 1000))
one = jnp.ones(1)
jitted = jax.jit(lambda x, one: x @ x @ x)
pmapped = jax.pmap(lambda x, one: x @ x @ x, in_axes=(None, 0), out_axes=None)
for program in (jitted, pmapped):
  program = program.lower(x, one).compile()
  print(program(x, one).is_ready())
"""


def _run(environment):
  done = subprocess.run(
    [sys.executable, '-c', _PROGRAM],
    env={**os.environ, **environment},
    capture_output=True,
    text=True,
    check=True,
  )
  directory, hits = done.stdout.split()
  return directory, int(hits)


@pytest.fixture(autouse=True)
def _restored_config():
  names = (
    'jax_compilation_cache_dir',
    'jax_persistent_cache_min_compile_time_secs',
  )
  before = {name: getattr(jax.config, name) for name in names}
  jax.config.update('jax_compilation_cache_dir', None)
  yield
  for name, value in before.items():
    jax.config.update(name, value)


def test_a_second_process_reads_the_programs_of_the_first(tmp_path):
  environment = {'XDG_CACHE_HOME': str(tmp_path)}
  directory, hits = _run(environment)
  assert directory == str(tmp_path / 'nfnets' / 'xla')
  assert hits == 0
  _, hits = _run(environment)
  assert hits >= 1


def test_programs_are_finished_when_their_call_returns():
  done = subprocess.run(
    [sys.executable, '-c', _CALL],
    env=os.environ | {'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
    check=True,
  )
  assert done.stdout.split() == ['True', 'True']


def test_garbage_is_collected_rarely():
  before = gc.get_threshold()
  try:
    compilation.collect_garbage_rarely()
    assert gc.get_threshold()[0] > 10 * 700
    assert gc.get_threshold()[1:] == before[1:]
    assert gc.isenabled()
  finally:
    gc.set_threshold(*before)


def test_only_the_user_can_write_to_the_folder(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  directory = compilation.enable_compilation_cache()
  assert directory.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize('mode', [0o770, 0o707, 0o777])
def test_a_folder_that_others_can_write_to_is_not_used(
  tmp_path, monkeypatch, caplog, mode
):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  folder = tmp_path / 'nfnets' / 'xla'
  folder.mkdir(parents=True)
  folder.chmod(mode)
  assert compilation.enable_compilation_cache() is None
  assert jax.config.jax_compilation_cache_dir is None
  (record,) = caplog.records
  assert record.getMessage().startswith(
    f'{folder} can be written by others (mode {mode:o}): compiled programs'
  )
  folder.chmod(0o755)
  assert compilation.enable_compilation_cache() == folder


def test_a_folder_of_another_user_is_not_used(tmp_path, monkeypatch, caplog):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  owned_by(monkeypatch, 12345)
  assert compilation.enable_compilation_cache() is None
  (record,) = caplog.records
  assert 'belongs to another user (id 12345)' in record.getMessage()


def owned_by(monkeypatch, user):
  """Makes every folder belong to a user."""
  stat = pathlib.Path.stat

  def changed(self, **options):
    fields = list(stat(self, **options))
    fields[4] = user
    return os.stat_result(fields)

  monkeypatch.setattr(pathlib.Path, 'stat', changed)


def test_a_folder_of_root_is_used(tmp_path, monkeypatch):
  monkeypatch.setattr(compilation.os, 'geteuid', lambda: 12345)
  owned_by(monkeypatch, 0)
  jax.config.update('jax_compilation_cache_dir', str(tmp_path))
  assert compilation.enable_compilation_cache() == tmp_path


@pytest.mark.parametrize(
  'user, mode, found',
  [
    (12345, 0o700, 'belongs to another user (id 12345)'),
    (0, 0o770, 'can be written by others (mode 770)'),
    (0, 0o1777, 'can be written by others (mode 1777)'),
  ],
)
def test_the_users_folder_is_checked_too(
  tmp_path, monkeypatch, caplog, user, mode, found
):
  tmp_path.chmod(mode)
  owned_by(monkeypatch, user)
  jax.config.update('jax_compilation_cache_dir', str(tmp_path))
  assert compilation.enable_compilation_cache() is None
  assert jax.config.jax_compilation_cache_dir is None
  (record,) = caplog.records
  assert record.getMessage() == (
    f'{tmp_path} {found}: compiled programs are not cached; remove the folder,'
    ' or set JAX_COMPILATION_CACHE_DIR to one of yours'
  )


@pytest.mark.parametrize(
  'given, found',
  [
    ('gs://bucket/cache', 'URLs are not supported'),
    ('$NO_SUCH_VARIABLE/cache', "the variable 'NO_SUCH_VARIABLE' is not set"),
    ('/dev/null/cache', 'cannot be created (Not a directory)'),
  ],
)
def test_a_folder_that_cannot_be_checked_is_not_used(
  tmp_path, monkeypatch, caplog, given, found
):
  monkeypatch.chdir(tmp_path)
  jax.config.update('jax_compilation_cache_dir', given)
  assert compilation.enable_compilation_cache() is None
  assert jax.config.jax_compilation_cache_dir is None
  (record,) = caplog.records
  assert f'{given} (JAX_COMPILATION_CACHE_DIR)' in record.getMessage()
  assert found in record.getMessage()
  assert record.getMessage().endswith('compiled programs are not cached')
  assert not list(tmp_path.iterdir())


def test_only_the_user_can_write_to_a_new_folder_of_theirs(tmp_path):
  folder = tmp_path / 'cache'
  jax.config.update('jax_compilation_cache_dir', str(folder))
  assert compilation.enable_compilation_cache() == folder
  assert folder.stat().st_mode & 0o777 == 0o700


def test_a_folder_from_the_environment_that_others_can_write_to(tmp_path):
  tmp_path.chmod(0o777)
  assert _run({'JAX_COMPILATION_CACHE_DIR': str(tmp_path)}) == ('None', 0)
  assert not list(tmp_path.iterdir())


def test_without_a_cache_the_users_folder_is_ignored(tmp_path, monkeypatch):
  for name in ('run_in_calling_thread', 'collect_garbage_rarely'):
    monkeypatch.setattr(compilation, name, lambda: None)
  jax.config.update('jax_compilation_cache_dir', str(tmp_path))
  compilation.prepare(cache=False, only_here=False)
  assert jax.config.jax_compilation_cache_dir is None


def test_a_variable_disables_the_cache(tmp_path, monkeypatch):
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  monkeypatch.setenv(compilation.OPT_OUT, '0')
  assert compilation.enable_compilation_cache() is None
  assert not list(tmp_path.iterdir())


def test_the_users_folder_is_kept(tmp_path):
  jax.config.update('jax_compilation_cache_dir', str(tmp_path))
  assert compilation.enable_compilation_cache() == tmp_path


def test_a_folder_that_cannot_be_created_means_no_cache(tmp_path, monkeypatch):
  (tmp_path / 'nfnets').write_text('a file in the way')
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path))
  assert compilation.enable_compilation_cache() is None


def test_flags_are_set_only_once(monkeypatch):
  monkeypatch.setenv('XLA_FLAGS', '--xla_cpu_enable_fast_math=false')
  compilation.set_compiler_flags()
  compilation.set_compiler_flags()
  first, second, third = os.environ['XLA_FLAGS'].split()
  assert first == '--xla_cpu_enable_fast_math=false'
  assert second == '--xla_cpu_opt_preset=CPU_OPT_PRESET_FAST_COMPILE'
  assert third == '--xla_disable_hlo_passes=cse_barrier_expander'


def test_the_users_flags_are_kept(monkeypatch):
  flags = (
    '--xla_cpu_opt_preset=CPU_OPT_PRESET_DEFAULT --xla_disable_hlo_passes=cse'
  )
  monkeypatch.setenv('XLA_FLAGS', flags)
  compilation.set_compiler_flags()
  assert os.environ['XLA_FLAGS'] == flags


@pytest.mark.parametrize(
  'package, platforms, expected',
  [
    ('jax_plugins', None, False),
    ('jax_plugins', 'cuda', False),
    ('libtpu', '', False),
    ('libtpu', 'cpu', True),
    ('none', None, True),
  ],
)
def test_flags_are_for_cpus(monkeypatch, package, platforms, expected):
  """XLA for GPUs fails with them: 'Unsupported instruction: opt-barrier'."""
  monkeypatch.delenv('XLA_FLAGS', raising=False)
  monkeypatch.setattr(
    importlib.util, 'find_spec', lambda name: name if name == package else None
  )
  monkeypatch.setattr(compilation, '_known', lambda flags: True)
  before = jax.config.jax_platforms
  try:
    jax.config.update('jax_platforms', platforms)
    compilation.set_compiler_flags()
  finally:
    jax.config.update('jax_platforms', before)
  assert ('XLA_FLAGS' in os.environ) == expected


def test_flags_unknown_to_xla_are_left_out(monkeypatch):
  monkeypatch.delenv('XLA_FLAGS', raising=False)
  known = compilation._FLAGS[0]
  unknown = ('--xla_no_such_flag=1', '--xla_cpu_opt_preset=NO_SUCH_PRESET')
  monkeypatch.setattr(compilation, '_FLAGS', (unknown[0], known))
  compilation.set_compiler_flags()
  assert os.environ['XLA_FLAGS'] == known
  monkeypatch.delenv('XLA_FLAGS')
  monkeypatch.setattr(compilation, '_FLAGS', unknown)
  compilation.set_compiler_flags()
  assert not os.environ['XLA_FLAGS']


def test_jax_starts_with_the_flags():
  program = """
from nfnets.runtime import compilation
compilation.set_compiler_flags()
import jax.numpy as jnp
print(float(jnp.ones(2).sum()))
"""
  done = subprocess.run(
    [sys.executable, '-c', program], capture_output=True, text=True, check=True
  )
  assert done.stdout.split() == ['2.0']
