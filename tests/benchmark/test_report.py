import json
import pathlib

import pytest

from nfnets import errors, models
from nfnets.analysis import macs
from nfnets.benchmark import __main__ as benchmark
from nfnets.benchmark import programs, report, timing, timm_peer

_SMALL = {'depth': (1,), 'widths': (16,)}


@pytest.fixture(scope='module')
def record():
  workload = programs.Workload('test_nfnet', 32, 8, 'float32')
  return report.measure(workload, rounds=2, parts=False, **_SMALL)


def test_record_holds_together_and_is_json(record):
  record = json.loads(json.dumps(record))
  model = models.create_model('test_nfnet', **_SMALL)
  for name, factor in (('forward', 2), ('train_step', 6)):
    row = record[name]
    flop = factor * 8 * macs.model_macs(model, 32)
    assert row['tflops'] * row['median'] * 1e12 == pytest.approx(flop)
    assert row['images_per_second'] * row['median'] == pytest.approx(8)
    share = row['tflops'] / record['peak_tflops']
    assert row['share_of_peak'] == pytest.approx(share)
    assert row['best'] <= row['low'] <= row['median'] <= row['high']
    assert row['memory_bytes'] > 0
  assert 'timm' not in record


def test_text_shows_each_program_and_the_peer(record):
  taken = timing.Timing(0.2, 0.1, 0.3, 0.1, 3)._asdict()
  shown = report.lines(
    record
    | {
      'timm': {'forward contiguous': taken},
      'ratio': {'forward': 0.5},
      'parts': {'AGC': 0.03, 'EMA': 0.01},
    }
  )
  assert shown[0].startswith('test_nfnet  32 px, batch 8, float32, cpu')
  assert [line.split()[0] for line in shown[1:3]] == ['forward', 'train_step']
  assert '200.0 ms (100.0 to 300.0)' in shown[3]
  assert '0.50 of' in shown[4]
  assert shown[-2].endswith('30.0 ms  75.0%')


def test_ratio_is_to_the_better_layout():
  def taken(seconds):
    return timing.summarise([seconds])

  timings = {
    'forward': taken(1.0),
    'timm forward contiguous': taken(4.0),
    'timm forward channels_last': taken(2.0),
  }
  assert report._ratio('forward', timings) == 0.5


@pytest.mark.parametrize(
  ('name', 'peer'),
  [
    ('nfnet_f0', 'dm_nfnet_f0'),
    ('nf_resnet50', 'nf_resnet50'),
    ('eca_nfnet_l0', 'eca_nfnet_l0'),
    ('timm_nf_regnet_b0', 'nf_regnet_b0'),
  ],
)
def test_counterparts(name, peer):
  assert timm_peer.counterpart(name) == peer


@pytest.mark.parametrize('name', ['nfnet_f0+', 'nf_regnet_b8', 'nf_resnet600'])
def test_no_counterpart_is_said(name):
  with pytest.raises(errors.UserError, match=name.replace('+', r'\+')):
    timm_peer.counterpart(name)


def test_peer_that_does_not_run_gives_its_last_words(tmp_path, monkeypatch):
  broken = tmp_path / 'python'
  broken.write_text('#!/bin/sh\necho no torch here >&2\nexit 1\n')
  broken.chmod(0o755)
  monkeypatch.setattr('sys.executable', str(broken))
  with pytest.raises(errors.UserError, match='no torch here'):
    with timm_peer.started('nfnet_f0', 32, 1, 'float32'):
      pass


@pytest.mark.slow
def test_timm_takes_turns():
  pytest.importorskip('torch')
  with timm_peer.started('test_nfnet', 32, 2, 'float32') as contestants:
    assert len(contestants) == 4
    for run in contestants.values():
      assert run() > 0


def test_negative_numbers_are_refused(monkeypatch, capsys):
  monkeypatch.setattr('sys.argv', ['benchmark', 'nfnet_f0', '--batch', '0'])
  with pytest.raises(SystemExit) as exit_info:
    benchmark.main()
  assert exit_info.value.code == 2
  assert '0 is not at least 1' in capsys.readouterr().err


def test_unknown_model_is_one_line(monkeypatch):
  monkeypatch.setattr('sys.argv', ['benchmark', 'nfnet_f9'])
  with pytest.raises(errors.UserError, match='nfnet_f9'):
    benchmark.main()


def test_command_writes_records(monkeypatch, capsys):
  made = {}

  def measure(workload, **options):
    made[workload] = options
    return {**workload._asdict()}

  monkeypatch.setattr(report, 'measure', measure)
  command = 'benchmark test_nfnet --batch 1 2 --size 32 --json --remat'
  monkeypatch.setattr('sys.argv', [*command.split(), '--trace', 'there'])
  assert benchmark.main() == 0
  rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
  assert [row['batch'] for row in rows] == [1, 2]
  options = made[programs.Workload('test_nfnet', 32, 1, 'float32')]
  assert options['remat'] is True
  assert options['trace'] == pathlib.Path('there')
