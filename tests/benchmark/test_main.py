"""The command line of the benchmark."""

import json
import pathlib

import pytest

from nfnets import errors
from nfnets.benchmark import __main__ as benchmark
from nfnets.benchmark import input as input_benchmark
from nfnets.benchmark import programs, report, text


def run(monkeypatch, command):
  monkeypatch.setattr('sys.argv', ['benchmark', *command.split()])
  return benchmark.main()


@pytest.mark.parametrize('arguments', ['--help', 'data --help'])
def test_help_explains_every_option(arguments, monkeypatch, capsys):
  with pytest.raises(SystemExit) as exit_info:
    run(monkeypatch, arguments)
  assert exit_info.value.code == 0
  parser = (
    benchmark._data_parser()
    if arguments.startswith('data')
    else benchmark._model_parser()
  )
  assert all(action.help for action in parser._actions)
  assert parser.format_help() == capsys.readouterr().out


@pytest.mark.parametrize(
  'arguments', ['nfnet_f0 --batch 0', 'data --threads 0']
)
def test_numbers_below_one_are_usage_errors(arguments, monkeypatch, capsys):
  with pytest.raises(SystemExit) as exit_info:
    run(monkeypatch, arguments)
  assert exit_info.value.code == 2
  assert '0 is not at least 1' in capsys.readouterr().err


def test_unknown_model_raises(monkeypatch):
  with pytest.raises(errors.UserError, match='nfnet_f9'):
    run(monkeypatch, 'nfnet_f9')


def test_command_prints_one_record_per_workload(monkeypatch, capsys):
  measured = {}

  def measure(workload, **options):
    measured[workload] = options
    return workload._asdict()

  monkeypatch.setattr(report, 'measure', measure)
  command = 'test_nfnet --batch 1 2 --size 32 --json --remat --trace there'
  assert run(monkeypatch, command) == 0
  rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
  assert [row['batch'] for row in rows] == [1, 2]
  assert rows[0]['lowering'] is None
  assert rows[0]['remat'] is True
  options = measured[programs.Workload('test_nfnet', 32, 1, 'float32')]
  assert options == {
    'rounds': 7,
    'in_flight': 1,  # Programs of CPUs run in the calling thread.
    'peer': None,
    'parts': True,
    'trace': pathlib.Path('there'),
    'remat': True,
  }


def test_accelerators_have_steps_in_flight(monkeypatch):
  monkeypatch.setattr('jax.default_backend', lambda: 'gpu')
  assert benchmark._in_flight() == 20


def test_the_onnx_peers_only_predict(monkeypatch):
  measured = []
  monkeypatch.setattr(
    report, 'measure', lambda _, **options: measured.append(options) or {}
  )
  run(monkeypatch, 'test_nfnet --vs=onnx --in-flight=3 --json')
  assert measured[0]['peer'] == 'onnx'
  assert measured[0]['in_flight'] == 3
  assert measured[0]['parts'] is False


def test_size_defaults_to_the_training_size(monkeypatch):
  measured = []

  def measure(workload, **options):
    measured.append(workload)
    return {}

  monkeypatch.setattr(report, 'measure', measure)
  monkeypatch.setattr(text, 'lines', lambda record: [])
  run(monkeypatch, 'nfnet_f0 nfnet_f1')
  assert [workload.size for workload in measured] == [192, 224]


def test_data_prints_a_table_or_records(monkeypatch, capsys):
  calls = []
  rates = [
    input_benchmark.Rate('nfnets', 900.0),
    input_benchmark.Rate('tf.data', float('nan'), 'no module'),
  ]

  def measure(**options):
    calls.append(options)
    return rates

  monkeypatch.setattr(input_benchmark, 'measure', measure)
  assert run(monkeypatch, 'data --size 32 --threads 3 --workers 2') == 0
  assert capsys.readouterr().out.splitlines() == input_benchmark.lines(rates)
  assert calls[0]['image_size'] == 32
  assert calls[0]['num_threads'] == 3
  assert calls[0]['num_workers'] == 2
  assert run(monkeypatch, 'data --json') == 0
  rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
  assert rows == [
    {'name': 'nfnets', 'images_per_second': 900.0, 'reason': ''},
    {'name': 'tf.data', 'images_per_second': None, 'reason': 'no module'},
  ]
