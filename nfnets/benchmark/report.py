"""Measures workloads and formats the results, as records and as text."""

import contextlib
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any, NotRequired, TypedDict

import jax

from nfnets.benchmark import profile, programs, timing, timm_peer

# The best of these runs of the matrix product is the device's peak.
_PEAK_ROUNDS = 10
# The heap grows in the first steps.
_WARM_UP = 3


class TimingRecord(TypedDict):
  """The fields of `timing.Timing`."""

  median: float
  low: float
  high: float
  best: float
  runs: int


class ProgramRecord(TimingRecord):
  """Times and rates of one of our programs."""

  images_per_second: float
  tflops: float  # 10^12 floating-point operations per second
  share_of_peak: float  # tflops / peak_tflops
  trace_seconds: float
  compile_seconds: float
  memory_bytes: int | None


class Record(TypedDict):
  """The result of one workload; JSON's types only."""

  model: str
  size: int
  batch: int
  dtype: str
  platform: str
  device: str
  jax: str
  peak_tflops: float
  forward: ProgramRecord
  train_step: ProgramRecord
  timm: NotRequired[dict[str, TimingRecord]]
  ratio: NotRequired[dict[str, float]]  # our time / timm's in its better layout
  parts: NotRequired[dict[str, float]]  # seconds per step


def measure(
  workload: programs.Workload,
  *,
  rounds: int,
  peer: bool = False,
  parts: bool = True,
  trace: pathlib.Path | None = None,
  **overrides: Any,
) -> Record:
  """Measures one workload.

  Args:
    workload: the workload.
    rounds: number of rounds, in each of which all programs take turns.
    peer: whether timm's counterpart takes turns with our programs.
    parts: whether to profile the train step of the published recipe.
    trace: folder in which to keep the profiler's traces.
    **overrides: options of `models.create_model`.

  Returns:
    The record, with 'timm' and 'ratio' if there is a peer.
  """
  peak = _peak(workload.dtype)
  own = {
    'forward': programs.forward(workload, **overrides),
    'train_step': programs.train_step(workload, **overrides),
  }
  with _peer(workload, peer) as others:
    contestants = {name: program.run for name, program in own.items()}
    timings = timing.in_turn(contestants | others, rounds)
  rows = {
    name: _program_record(program, timings[name], workload, peak)
    for name, program in own.items()
  }
  device = jax.local_devices()[0]
  record = Record(
    model=workload.model,
    size=workload.size,
    batch=workload.batch,
    dtype=workload.dtype,
    platform=device.platform,
    device=device.device_kind,
    jax=jax.__version__,
    peak_tflops=peak / 1e12,
    forward=rows['forward'],
    train_step=rows['train_step'],
  )
  if peer:
    record['timm'] = {
      name.removeprefix('timm '): _timing_record(timings[name])
      for name in others
    }
    record['ratio'] = {name: _ratio(name, timings) for name in own}
  if parts:
    record['parts'] = _parts(workload, trace, overrides)
  return record


def _peak(dtype: str) -> float:
  """Returns the rate of the fastest matrix product, operations per second."""
  program = programs.matmul_peak(dtype)
  best = timing.in_turn({'peak': program.run}, _PEAK_ROUNDS)['peak'].best
  return program.flop / best


@contextlib.contextmanager
def _peer(
  workload: programs.Workload, wanted: bool
) -> Iterator[dict[str, timing.Run]]:
  if not wanted:
    yield {}
    return
  with timm_peer.started(*workload) as contestants:
    yield contestants


def _parts(
  workload: programs.Workload,
  trace: pathlib.Path | None,
  overrides: Mapping[str, Any],
) -> dict[str, float]:
  """Returns the seconds of each part of the published recipe's step."""
  step = programs.train_step(workload, 'published', **overrides)
  for _ in range(_WARM_UP):
    step.run()
  return profile.seconds_by_part(step.run, step.text, directory=trace)


def _timing_record(taken: timing.Timing) -> TimingRecord:
  return TimingRecord(
    median=taken.median,
    low=taken.low,
    high=taken.high,
    best=taken.best,
    runs=taken.runs,
  )


def _program_record(
  program: programs.Program,
  taken: timing.Timing,
  workload: programs.Workload,
  peak: float,
) -> ProgramRecord:
  rate = program.flop / taken.median
  return ProgramRecord(
    **_timing_record(taken),
    images_per_second=workload.batch / taken.median,
    tflops=rate / 1e12,
    share_of_peak=rate / peak,
    trace_seconds=program.trace_seconds,
    compile_seconds=program.compile_seconds,
    memory_bytes=program.memory_bytes,
  )


def _ratio(name: str, timings: dict[str, timing.Timing]) -> float:
  """Returns our median divided by timm's in its better layout."""
  peers = (timings[f'timm {name} {layout}'] for layout in timm_peer.LAYOUTS)
  return timings[name].median / min(peer.median for peer in peers)


def lines(record: Record) -> list[str]:
  """Formats a record as lines of text.

  Args:
    record: a record from `measure`.
  """
  text = [
    f'{record["model"]}  {record["size"]} px, batch {record["batch"]},'
    f' {record["dtype"]}, {record["device"]}, jax {record["jax"]},'
    f' matrix product at {record["peak_tflops"]:.3f} TFLOP/s',
    _program_line('forward', record['forward']),
    _program_line('train_step', record['train_step']),
  ]
  for name, taken in record.get('timm', {}).items():
    text.append(f'  timm {name:24} {_times(taken)}')
  for name, ratio in record.get('ratio', {}).items():
    text.append(f"  {name}: {ratio:.2f} of timm's time in its better layout")
  parts = record.get('parts', {})
  total = sum(parts.values())
  if parts:
    text.append("  the published recipe's step, profiled:")
  for name, seconds in parts.items():
    percent = 100 * seconds / total
    text.append(f'    {name:28} {1e3 * seconds:9.1f} ms {percent:5.1f}%')
  return text


def _times(taken: TimingRecord) -> str:
  low, high = 1e3 * taken['low'], 1e3 * taken['high']
  return f'{1e3 * taken["median"]:9.1f} ms ({low:.1f} to {high:.1f})'


def _program_line(name: str, row: ProgramRecord) -> str:
  memory = ''
  if row['memory_bytes'] is not None:
    memory = f', {row["memory_bytes"] / 2**20:.0f} MiB'
  return (
    f'  {name:29} {_times(row)}'
    f' {row["images_per_second"]:8.2f} images/s'
    f' {row["tflops"]:.3f} TFLOP/s ({100 * row["share_of_peak"]:.0f}%),'
    f' traced in {row["trace_seconds"]:.1f} s,'
    f' compiled in {row["compile_seconds"]:.1f} s{memory}'
  )
