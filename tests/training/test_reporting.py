import errno
import io
import json
import logging
import os
import sys
import time

import pytest

from nfnets.training import reporting, speed
from tests.training import disks


class Terminal(io.StringIO):
  def isatty(self):
    return True


class Clock:
  """A clock that the test sets."""

  def __init__(self, monkeypatch):
    self.now = 0.0
    monkeypatch.setattr(time, 'perf_counter', lambda: self.now)


@pytest.fixture
def clock(monkeypatch):
  return Clock(monkeypatch)


def make(workdir, stream, total_steps=100, **options):
  return reporting.Reporter(
    workdir,
    total_steps=total_steps,
    images_per_step=32,
    stream=stream,
    **options,
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
    'about 3.3 min left for 98 steps',
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


def full(*_):
  raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
  'report, method, at',
  [
    ('metrics_file.MetricsFile', 'write', 'metrics.jsonl'),
    ('metrics_file.MetricsFile', 'sync', 'metrics.jsonl'),
    ('metrics_file.MetricsFile', '__init__', 'metrics.jsonl'),
    ('event_file.EventFile', 'write', 'tensorboard'),
    ('event_file.EventFile', 'sync', 'tensorboard'),
    ('event_file.EventFile', '__init__', 'tensorboard'),
    ('_Lines', 'message', 'the output'),
  ],
)
def test_a_report_that_fails_is_dropped_with_one_warning(
  tmp_path, monkeypatch, caplog, report, method, at
):
  target = reporting
  for name in report.split('.'):
    target = getattr(target, name)
  monkeypatch.setattr(target, method, full)
  stream = io.StringIO()
  reporter = make(tmp_path, stream)
  for step in range(1, 4):
    reporter.progress(step, 1.0)
    reporter.write(step, {'train/loss': 0.5})
    reporter.message('hello')
    reporter.sync()
  reporter.close()
  warnings = [x for x in caplog.records if x.levelno == logging.WARNING]
  (text,) = [x.getMessage() for x in warnings]
  where = at if at == 'the output' else str(tmp_path / at)
  assert text == (
    f'{where} cannot be written (No space left on device): the run continues'
    ' without it until it is restarted'
  )
  # The others are complete.
  written = (tmp_path / 'metrics.jsonl').exists() and (
    tmp_path / 'metrics.jsonl'
  ).read_text().count('\n')
  assert written == 3 or at == 'metrics.jsonl'
  assert stream.getvalue().count('hello') == 3 or at == 'the output'
  events = b''.join(
    path.read_bytes() for path in tmp_path.glob('tensorboard/*')
  )
  assert events.count(b'train/loss') == 3 or at == 'tensorboard'


def test_a_closed_stream_and_an_encoding_without_the_text_are_tolerated(
  tmp_path, caplog
):
  closed = io.StringIO()
  closed.close()
  narrow = io.TextIOWrapper(io.BytesIO(), encoding='ascii')
  for stream in (closed, narrow):
    reporter = make(tmp_path, stream)
    reporter.message('fertig: \u2713')
    reporter.message('again')
    reporter.close()
  assert len(caplog.records) == 2


@pytest.fixture
def small_disk(tmp_path):
  with disks.small(tmp_path / 'disk') as folder:
    yield folder


def test_a_full_disk_neither_ends_nor_delays_the_run(small_disk, caplog):
  reporter = make(small_disk, io.StringIO())
  reporter.write(1, {'train/loss': 0.5})
  reporter.sync()
  filler = disks.fill(small_disk)
  # More than what the page in use still holds, and than any queue.
  for step in range(2, 400):
    reporter.write(step, {'train/loss': 0.5, 'train/top1': 0.25})
  reporter.sync()
  reporter.close()
  texts = [record.getMessage() for record in caplog.records]
  assert len(texts) == 2 and all('No space left' in text for text in texts)
  # Free space and resume from step 1: one valid line for each step.
  filler.unlink()
  reporter = make(small_disk, io.StringIO(), start_step=1)
  reporter.write(2, {'train/loss': 0.25})
  reporter.close()
  lines = (small_disk / 'metrics.jsonl').read_text().splitlines()
  assert [json.loads(line)['step'] for line in lines] == [1, 2]


def test_a_full_disk_at_the_start_keeps_the_old_metrics(small_disk, caplog):
  old = ''.join(f'{{"step": {step}}}\n' for step in range(1, 4))
  (small_disk / 'metrics.jsonl').write_text(old)
  disks.fill(small_disk)
  # The lines after step 1 cannot be dropped, so none may be added.
  reporter = make(small_disk, io.StringIO(), start_step=1)
  reporter.write(2, {'train/loss': 0.25})
  reporter.close()
  assert (small_disk / 'metrics.jsonl').read_text() == old
  assert len(caplog.records) == 2


@pytest.fixture
def stream(monkeypatch):
  monkeypatch.setenv('TERM', 'xterm')
  monkeypatch.setenv('COLUMNS', '100')
  return Terminal()


def test_a_bar_shows_no_measurement_before_the_first_step(tmp_path, stream):
  reporter = make(tmp_path, stream)
  reporter.message('compiling')
  text = stream.getvalue()
  assert 'step 0/100' in text
  assert not any(word in text for word in ('nan', 'loss', 'images/s'))
  reporter.progress(1, 2.5)
  reporter.close()
  assert 'loss 2.5000' in stream.getvalue()
  assert 'images/s' not in stream.getvalue()


@pytest.mark.parametrize(
  'name',
  [
    'photo[copy].jpg',
    'img:cat:.jpg',
    '/0x1f "x" 1.5',
    '/long/' + 50 * 'path' + '/:smile:[/]',
  ],
)
def test_a_bar_prints_messages_as_they_are(tmp_path, stream, name):
  reporter = make(tmp_path, stream)
  reporter.message(f'checkpoint: {name}')
  reporter.close()
  assert f'checkpoint: {name}\n' in stream.getvalue()


@pytest.mark.parametrize('name', ['photo[copy].jpg: :cat:', '[red]x[/]'])
def test_warnings_beside_a_bar_are_printed_as_they_are(tmp_path, stream, name):
  reporter = make(tmp_path, stream)
  sys.stderr.write(f'{name}: a warning\n')
  sys.stderr.write(f'{name}: half a line')
  sys.stderr.flush()
  reporter.close()
  for text in ('a warning', 'half a line'):
    assert f'{name}: {text}\n' in stream.getvalue()


@pytest.mark.parametrize(
  ('seconds', 'text'),
  [
    (2, 'about 18 s left for 9 steps\n'),
    (40, 'about 6.0 min left'),
    (4000, 'about 10.0 h left'),
    (40000, 'about 4.2 days left for 9 steps; less\n'),
  ],
)
def test_the_second_step_tells_how_long_the_run_takes(
  tmp_path, monkeypatch, seconds, text
):
  now = [0.0]
  monkeypatch.setattr(speed.time, 'perf_counter', lambda: now[0])
  stream = io.StringIO()
  reporter = make(tmp_path, stream, total_steps=11, shorter='less')
  for step in (1, 2, 3):
    now[0] += seconds
    reporter.progress(step, 1.0)
  reporter.close()
  assert stream.getvalue().count('left for') == 1
  assert text in stream.getvalue()
