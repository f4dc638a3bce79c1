"""Runs run.sh with stand-ins for Python and nvidia-smi; installs nothing."""

import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parent.parent
NAMES = ('python3.13', 'python3.12', 'python3.11', 'python3')

# Answers run.sh's questions and records what it would install.
FAKE_PYTHON = """#!/usr/bin/env bash
version=$(cat "$0.version")
case "$*" in
  *version_info*) minor=${version#3.}; (( ${minor%%.*} >= 11 )) ;;
  *python_version*) echo "$version" ;;
  *ensurepip*) [[ ! -e $0.bare ]] ;;
  '-m venv '*)
    mkdir -p "$3/bin"
    cp "$0" "$3/bin/python"
    cp "$0.version" "$3/bin/python.version"
    ;;
  '-m pip --version'*) ;;
  '-m pip '*) echo "$*" >> "$LOG"; exit "${PIP_STATUS:-0}" ;;
  *) echo "in $PWD: $*" ;;
esac
"""


class Checkout:
  """A copy of run.sh in a folder with a space in its name, and a PATH."""

  def __init__(self, folder: pathlib.Path):
    self.root = folder / 'my checkout'
    self.bin = folder / 'bin'
    self.log = folder / 'pip.log'
    self.elsewhere = folder / 'elsewhere'
    for path in (self.root, self.bin, self.elsewhere):
      path.mkdir()
    for path in [ROOT / 'run.sh', *ROOT.glob('requirements*.txt')]:
      shutil.copy(path, self.root)
    self.add('nvidia-smi', 'exit 9')
    for name in NAMES:
      self.python(name, '3.12.1')

  def add(self, name: str, script: str) -> None:
    path = self.bin / name
    path.write_text(f'#!/usr/bin/env bash\n{script}\n')
    path.chmod(0o755)

  def python(self, name: str, version: str, bare: bool = False) -> None:
    path = self.bin / name
    path.write_text(FAKE_PYTHON)
    path.chmod(0o755)
    (self.bin / f'{name}.version').write_text(version)
    if bare:
      (self.bin / f'{name}.bare').touch()

  def run(self, *args: str, **env: str) -> subprocess.CompletedProcess:
    return subprocess.run(
      [self.root / 'run.sh', *args],
      cwd=self.elsewhere,
      env={
        'PATH': f'{self.bin}:/usr/local/bin:/usr/bin:/bin',
        'HOME': str(self.elsewhere),
        'LOG': str(self.log),
        'NFNETS_PLATFORM': 'cpu',
        **env,
      },
      stdin=subprocess.DEVNULL,
      capture_output=True,
      text=True,
      timeout=60,
    )

  def installed(self) -> list[str]:
    """Returns the arguments of the calls of pip so far."""
    return self.log.read_text().splitlines() if self.log.exists() else []


@pytest.fixture
def checkout(tmp_path):
  return Checkout(tmp_path)


def assert_fails(result, *parts: str, status: int = 1):
  assert result.returncode == status
  assert result.stderr.count('\n') == 1 and result.stderr.startswith('error: ')
  for part in parts:
    assert part in result.stderr


def test_sets_up_once(checkout):
  assert checkout.run('setup').returncode == 0
  (line,) = checkout.installed()
  assert line.endswith(f'install -r {checkout.root}/requirements.txt')
  again = checkout.run('setup')
  assert (again.returncode, again.stdout, again.stderr) == (0, '', '')
  assert len(checkout.installed()) == 1


def test_new_requirements_are_installed(checkout):
  checkout.run('setup')
  with open(checkout.root / 'requirements.txt', 'a') as file:
    file.write('another\n')
  checkout.run('setup')
  assert len(checkout.installed()) == 2


def test_a_failed_installation_is_retried(checkout):
  failed = checkout.run('setup', PIP_STATUS='1')
  assert failed.returncode == 1
  assert failed.stderr.splitlines()[-1].startswith('error: requirements.txt')
  assert checkout.run('setup').returncode == 0
  assert len(checkout.installed()) == 2


def test_a_broken_environment_is_recreated(checkout):
  checkout.run('setup')
  (checkout.root / '.venv/bin/python').unlink()
  assert checkout.run('setup').returncode == 0
  assert len(checkout.installed()) == 2


def test_another_python_or_platform_recreates_the_environment(checkout):
  checkout.run('setup')
  checkout.python('other', '3.13.0')
  checkout.run('setup', PYTHON='other')
  checkout.run('setup', PYTHON='other')
  assert len(checkout.installed()) == 2
  checkout.run('setup', NFNETS_PLATFORM='cuda12')
  assert len(checkout.installed()) == 3


def test_a_folder_it_did_not_create_is_left_alone(checkout):
  precious = checkout.elsewhere / 'home' / 'thesis.tex'
  precious.parent.mkdir()
  precious.touch()
  result = checkout.run('setup', NFNETS_VENV='home')
  assert_fails(result, 'elsewhere/home', 'NFNETS_VENV')
  assert precious.exists()
  result = checkout.run('setup', NFNETS_VENV='~/home')
  assert_fails(result, f'{checkout.elsewhere}/home cannot be used')


@pytest.mark.parametrize('platform', ['cuda12', 'cuda13', 'tpu'])
def test_a_chosen_platform_adds_its_jax(checkout, platform):
  checkout.run('setup', NFNETS_PLATFORM=platform)
  assert checkout.installed()[0].endswith(f'requirements.txt jax[{platform}]')


@pytest.mark.parametrize(
  'version, extra', [('12.4', ' jax[cuda12]'), ('13.0', ' jax[cuda13]')]
)
def test_the_driver_determines_the_cuda_version(checkout, version, extra):
  checkout.add(
    'nvidia-smi', f'echo "| Driver Version: 570.1  CUDA Version: {version} |"'
  )
  checkout.run('setup', NFNETS_PLATFORM='')
  assert checkout.installed()[0].endswith('requirements.txt' + extra)
  checkout.add('nvidia-smi', 'exit 9')
  checkout.run('setup', NFNETS_PLATFORM='')
  assert len(checkout.installed()) == 1


def test_an_unknown_platform_is_an_error_of_one_line(checkout):
  result = checkout.run(NFNETS_PLATFORM='rocm')
  assert_fails(result, "'rocm'", 'cpu, cuda12, cuda13 or tpu')
  assert not checkout.installed()


def test_an_old_python_is_an_error_of_one_line(checkout):
  for name in NAMES:
    checkout.python(name, '3.9.18')
  assert_fails(checkout.run('setup'), '3.11 or newer', 'python3 is 3.9.18')


def test_a_missing_python_is_an_error_of_one_line(checkout):
  result = checkout.run('setup', PYTHON='/no/such/python')
  assert_fails(result, '3.11 or newer', '/no/such/python', 'PYTHON=')


def test_a_missing_venv_module_is_an_error_of_one_line(checkout):
  for name in NAMES:
    checkout.python(name, '3.12.1', bare=True)
  assert_fails(checkout.run('setup'), 'python3.13', 'apt', 'python3.12-venv')


def test_the_first_usable_python_is_used(checkout):
  checkout.add('python3.13', 'exit 127')
  checkout.python('python3.12', '3.12.1', bare=True)
  checkout.python('python3.11', '3.11.7')
  result = checkout.run('setup')
  assert result.returncode == 0
  assert 'with Python 3.11.7' in result.stderr


def test_training_is_the_default(checkout):
  result = checkout.run('--config.seed=1')
  assert result.stdout == (
    f'in {checkout.elsewhere}: -P -m nfnets.experiment'
    f' --config={checkout.root}/experiments/digits.py'
    f' --workdir={checkout.root}/runs/digits --config.seed=1\n'
  )


def test_another_config_replaces_the_defaults(checkout):
  result = checkout.run('--config=mine.py', '--mode=eval')
  assert result.stdout == (
    f'in {checkout.elsewhere}: -P -m nfnets.experiment'
    ' --config=mine.py --mode=eval\n'
  )


def test_testing_installs_the_tools_and_passes_options_on(checkout):
  result = checkout.run('test', '-m', 'slow', 'tests/my file.py')
  assert result.stdout == (
    f'in {checkout.root}: -m pytest -n 2 -m slow tests/my file.py\n'
  )
  assert [line.rpartition('/')[2] for line in checkout.installed()] == [
    'requirements.txt',
    'requirements-dev.txt',
  ]


def test_an_unknown_command_is_an_error_of_one_line(checkout):
  assert_fails(checkout.run('tset'), "'tset'", '--help', status=2)
  assert_fails(checkout.run('setup', '--fast'), "'--fast'", status=2)
  assert not checkout.installed()


def test_help_lists_commands_and_variables(checkout):
  result = checkout.run('--help')
  assert result.returncode == 0
  for word in ('test', 'setup', 'PYTHON', 'NFNETS_VENV', 'NFNETS_PLATFORM'):
    assert word in result.stdout
