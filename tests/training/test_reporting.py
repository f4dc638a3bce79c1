import io
import json

import jax
import pytest

from nfnets.optim import optimizer as optimizer_lib
from nfnets.training import reporting
from tests.training import tiny


class Terminal(io.StringIO):
  def isatty(self):
    return True


class Clock:
  """A clock that the test sets."""

  def __init__(self, monkeypatch):
    self.now = 0.0
    monkeypatch.setattr(reporting.time, 'perf_counter', lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
  return Clock(monkeypatch)


def make(workdir, stream, start_step=0):
  return reporting.Reporter(
    workdir,
    total_steps=100,
    images_per_step=32,
    start_step=start_step,
    stream=stream,
  )


def test_images_per_second_exclude_compilation_and_pauses(tmp_path, clock):
  reporter = make(tmp_path, io.StringIO())
  clock.now = 50.0  # the first step was compiled
  reporter.progress(1, 1.0)
  assert reporter.speed() == {}
  for step in range(2, 6):
    clock.now += 0.5
    reporter.progress(step, 1.0)
  with reporter.paused():
    clock.now += 1000.0
  clock.now += 0.5
  reporter.progress(6, 1.0)
  assert reporter.speed() == {'images_per_second': 64.0}
  # Measured since the last call, not since the start.
  for step in range(7, 9):
    clock.now += 0.25
    reporter.progress(step, 1.0)
  assert reporter.speed() == {'images_per_second': 128.0}
  reporter.close()


def test_plain_lines_show_the_time_left(tmp_path, clock):
  stream = io.StringIO()
  reporter = make(tmp_path, stream)
  for step in range(1, 12):
    clock.now += 2.0
    reporter.progress(step, 1.0)
  reporter.write(
    11, {'train/top1': 0.5, 'train/loss': 1.23456} | reporter.speed()
  )
  reporter.write(11, {'eval/top1': 0.25})
  reporter.message('done')
  reporter.close()
  assert stream.getvalue().splitlines() == [
    'step 11/100: loss 1.235, top1 0.5, 16 images/s, 0:02:58 left',
    'step 11/100: eval/top1 0.25',
    'done',
  ]


def test_a_terminal_gets_a_bar(tmp_path, clock, monkeypatch):
  monkeypatch.setenv('TERM', 'xterm')
  monkeypatch.setenv('COLUMNS', '100')
  stream = Terminal()
  reporter = make(tmp_path, stream, start_step=40)
  for step in range(41, 45):
    clock.now += 2.0
    reporter.progress(step, 0.75)
  reporter.write(44, {'eval/top1': 0.5})
  reporter.close()
  text = stream.getvalue()
  assert 'step 44/100' in text and 'loss 0.7500' in text
  assert '16 images/s' in text
  assert 'step 44/100: eval/top1 0.5\n' in text.replace('\r', '')


def test_scalars_go_to_the_file_and_to_tensorboard(tmp_path):
  reporter = make(tmp_path, io.StringIO())
  reporter.write(3, {'train/loss': 0.5})
  reporter.sync()
  line = (tmp_path / 'metrics.jsonl').read_text()
  assert json.loads(line) == {'step': 3, 'train/loss': 0.5}
  # TensorBoard writes in a thread of its own; only closing waits for it.
  reporter.close()
  events = b''.join(
    path.read_bytes() for path in (tmp_path / 'tensorboard').iterdir()
  )
  assert b'train/loss' in events


def test_other_processes_are_silent(tmp_path, monkeypatch):
  monkeypatch.setattr(reporting.devices, 'is_primary', lambda: False)
  stream = io.StringIO()
  reporter = make(tmp_path, stream)
  reporter.progress(1, 1.0)
  reporter.write(1, {'train/loss': 1.0} | reporter.speed())
  with reporter.paused():
    reporter.message('hello')
  reporter.sync()
  reporter.close()
  assert stream.getvalue() == '' and not list(tmp_path.iterdir())


def test_start_summary():
  params, _ = tiny.make_model().init(None, None)
  text = reporting.start_summary(
    model='tiny',
    parameters=1234567,
    gmacs=0.5,
    image_size=8,
    memory='1 GiB',
    groups=optimizer_lib.describe_groups(params),
  )
  lines = text.splitlines()
  assert lines[0].split() == (
    'model tiny: 1,234,567 parameters, 0.500 GMACs at 8 px'.split()
  )
  assert lines[1].split() == f'devices {jax.device_count()} x cpu'.split()
  assert lines[2].split() == 'memory 1 GiB'.split()
  assert 'classifier weight: 1 tensors, 80 parameters' in text


def test_start_summary_shows_the_processes(monkeypatch):
  monkeypatch.setattr(reporting.jax, 'process_count', lambda: 2)
  text = reporting.start_summary(
    model='tiny', parameters=1, gmacs=0.0, image_size=8, memory='', groups=[]
  )
  assert text.splitlines()[1].endswith('in 2 processes')
