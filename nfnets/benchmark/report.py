"""Measures workloads and returns the results as records."""

import contextlib
import math
import pathlib
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal, NotRequired, TypedDict

import jax

from nfnets.analysis import estimates
from nfnets.benchmark import (
  child,
  onnx_peer,
  profile,
  programs,
  timing,
  timm_peer,
)

Kind = Literal['forward', 'train_step']
Peer = Literal['timm', 'onnx']
PEERS = {'timm': timm_peer.started, 'onnx': onnx_peer.started}
"""Peer -> starts its contestants, named 'KIND VARIANT'."""

# The best of these runs of the matrix product is the device's peak.
_PEAK_ROUNDS = 10
# The heap grows in the first steps.
_WARM_UP = 3


class TimingRecord(TypedDict):
  """The fields of `timing.Timing`, seconds of a run that is waited for."""

  median: float
  low: float
  high: float
  best: float
  runs: int
  in_flight: NotRequired[float]  # median per run, with several in flight


class PeerRecord(TimingRecord):
  """Times of a peer's program."""

  memory_bytes: int | None


class ProgramRecord(TimingRecord):
  """Times and rates of one of our programs, with runs in flight if measured."""

  images_per_second: float
  tflops: float  # 10^12 floating-point operations per second
  share_of_peak: float  # tflops / peak_tflops
  trace_seconds: float
  compile_seconds: float
  memory_bytes: int | None


class Profiled(TypedDict):
  """Seconds per step, see `profile.Profile`."""

  busy: float
  total: float


class Record(TypedDict):
  """The result of one workload; JSON's types only."""

  model: str
  size: int
  batch: int
  dtype: str
  platform: str
  device: str
  jax: str
  in_flight: int  # number of runs in flight
  peak_tflops: float
  peak_source: str  # 'published' or 'matrix product'
  forward: NotRequired[ProgramRecord]
  train_step: NotRequired[ProgramRecord]  # the ONNX peers only predict
  timm: NotRequired[dict[str, PeerRecord]]
  onnx: NotRequired[dict[str, PeerRecord]]
  ratio: NotRequired[dict[str, float]]  # our time / the peer's best variant's
  parts: NotRequired[dict[str, float]]  # seconds per step
  profiled: NotRequired[Profiled]


def measure(
  workload: programs.Workload,
  *,
  rounds: int,
  in_flight: int = 1,
  peer: Peer | None = None,
  parts: bool = True,
  trace: pathlib.Path | None = None,
  **overrides: Any,
) -> Record:
  """Measures one workload.

  Args:
    workload: the workload.
    rounds: number of rounds, in each of which all programs take turns.
    in_flight: number of runs in flight for throughput; with 1 it is not
      measured.
    peer: a key of `PEERS`, whose programs take turns with ours; None: none.
    parts: whether to profile the train step of the published recipe.
    trace: folder in which to keep the profiler's traces.
    **overrides: options of `models.create_model`.

  Returns:
    The record, with the peer's name and 'ratio' if there is a peer.
  """
  device = jax.local_devices()[0]
  # The peer first: if it is missing, nothing has to be compiled to find out.
  with _peer(workload, peer, device.platform) as others:
    peak, source = _peak(workload.dtype, device.device_kind, in_flight)
    own = _programs(workload, peer, overrides)
    contestants: dict[str, timing.Run] = {**others}
    contestants |= {name: program.run for name, program in own.items()}
    rows = _timing_records(contestants, rounds, in_flight)
  record = Record(
    model=workload.model,
    size=workload.size,
    batch=workload.batch,
    dtype=workload.dtype,
    platform=device.platform,
    device=device.device_kind,
    jax=jax.__version__,
    in_flight=in_flight,
    peak_tflops=peak / 1e12,
    peak_source=source,
  )
  for name, program in own.items():
    record[name] = _program_record(program, rows[name], workload, peak)
  if peer:
    record[peer] = _peer_records(others, rows)
    record['ratio'] = ratios(rows, own.keys())
  if parts:
    found = _profile(workload, trace, overrides)
    record['parts'] = found.parts
    record['profiled'] = Profiled(busy=found.busy, total=found.total)
  return record


def _programs(
  workload: programs.Workload, peer: Peer | None, overrides: Mapping[str, Any]
) -> dict[Kind, programs.Program]:
  """Compiles our programs that have a counterpart among the peer's."""
  own: dict[Kind, programs.Program]
  own = {'forward': programs.forward(workload, **overrides)}
  if peer != 'onnx':
    own['train_step'] = programs.train_step(workload, **overrides)
  return own


def _peak(dtype: str, device: str, in_flight: int) -> tuple[float, str]:
  """Returns a device's peak in operations per second, and where it is from."""
  if published := estimates.PEAKS.get(device):
    rate = published.bfloat16 if dtype == 'bfloat16' else published.float32
    return rate, 'published'
  program = programs.matmul_peak(dtype)
  taken = timing.in_turn({'peak': program.run}, _PEAK_ROUNDS, in_flight)
  return program.flop / taken['peak'].best, 'matrix product'


@contextlib.contextmanager
def _peer(
  workload: programs.Workload, peer: Peer | None, platform: str
) -> Iterator[dict[str, child.Contestant]]:
  if peer is None:
    yield {}
    return
  with PEERS[peer](workload, platform) as contestants:
    yield contestants


def _profile(
  workload: programs.Workload,
  trace: pathlib.Path | None,
  overrides: Mapping[str, Any],
) -> profile.Profile:
  """Profiles the step of the published recipe."""
  step = programs.train_step(workload, 'published', **overrides)
  step.run(_WARM_UP)
  return profile.measure(step.run, step.text, directory=trace)


def _timing_records(
  contestants: Mapping[str, timing.Run], rounds: int, in_flight: int
) -> dict[str, TimingRecord]:
  """Measures all contestants in turn, also with runs in flight if wanted."""
  taken = timing.in_turn(contestants, rounds)
  flights: dict[str, timing.Timing] = {}
  if in_flight > 1:
    flights = timing.in_turn(contestants, rounds, in_flight)
  return {
    name: _timing_record(taken[name], flights.get(name)) for name in contestants
  }


def _timing_record(
  taken: timing.Timing, flight: timing.Timing | None
) -> TimingRecord:
  record = TimingRecord(
    median=taken.median,
    low=taken.low,
    high=taken.high,
    best=taken.best,
    runs=taken.runs,
  )
  if flight:
    record['in_flight'] = flight.median
  return record


def _seconds(row: TimingRecord) -> float:
  """Returns the seconds per run that count for rates and ratios."""
  return row.get('in_flight', row['median'])


def _peer_records(
  others: Mapping[str, child.Contestant], rows: Mapping[str, TimingRecord]
) -> dict[str, PeerRecord]:
  return {
    name: PeerRecord(**rows[name], memory_bytes=other.memory or None)
    for name, other in others.items()
  }


def _program_record(
  program: programs.Program,
  taken: TimingRecord,
  workload: programs.Workload,
  peak: float,
) -> ProgramRecord:
  rate = program.flop / _seconds(taken)
  return ProgramRecord(
    **taken,
    images_per_second=workload.batch / _seconds(taken),
    tflops=rate / 1e12,
    share_of_peak=rate / peak,
    trace_seconds=program.trace_seconds,
    compile_seconds=program.compile_seconds,
    memory_bytes=program.memory_bytes,
  )


def ratios(
  rows: Mapping[str, TimingRecord], own: Collection[str]
) -> dict[str, float]:
  """Divides our times by those of the best variant of the peer.

  Args:
    rows: the times of all contestants; the peer's are named 'KIND VARIANT'.
    own: the names of ours.

  Returns:
    {the peer's kind: ratio}. A kind such as 'train_step without AGC' is
    compared with our program of its first word.
  """
  best: dict[str, float] = {}
  for name, row in rows.items():
    if name not in own:
      kind = name.rpartition(' ')[0]
      best[kind] = min(best.get(kind, math.inf), _seconds(row))
  return {
    kind: _seconds(rows[kind.partition(' ')[0]]) / seconds
    for kind, seconds in best.items()
  }
