"""Measures workloads and says what came out, as records and as text."""

import contextlib
import pathlib
from collections.abc import Iterator
from typing import Any

import jax

from nfnets.benchmark import profile, programs, timing, timm_peer

# Of the matrix product's rounds, the best counts: it is a device's ceiling.
_PEAK_ROUNDS = 10
# The heap grows in the first steps.
_WARM_UP = 3


def environment() -> dict[str, str]:
  """What the figures depend on besides the program."""
  device = jax.local_devices()[0]
  return {
    'platform': device.platform,
    'device': device.device_kind,
    'jax': jax.__version__,
  }


def peak_flops(dtype: str) -> float:
  """Operations per second of the fastest product of two 2048 x 2048 matrices.

  Args:
    dtype: of the factors.
  """
  program = programs.matmul_peak(dtype)
  best = timing.in_turn({'peak': program.run}, _PEAK_ROUNDS)['peak'].best
  return program.flop / best


def measure(
  workload: programs.Workload,
  *,
  rounds: int,
  peer: bool = False,
  parts: bool = True,
  trace: pathlib.Path | None = None,
  **overrides: Any,
) -> dict[str, Any]:
  """One workload's record.

  Args:
    workload: what is measured.
    rounds: how often each program is run, all in turn.
    peer: whether timm's counterpart takes turns with ours.
    parts: whether to profile the published recipe's step.
    trace: folder that keeps the profiler's traces.
    **overrides: of `create_model`.

  Returns:
    JSON's types: the workload, 'peak_tflops', for each program ('forward',
    'train_step') its times and rates, with a peer also 'timm' and 'ratio'
    (ours / timm's better layout), and 'parts' in seconds a step.
  """
  peak = peak_flops(workload.dtype)
  own = {
    'forward': programs.forward(workload, **overrides),
    'train_step': programs.train_step(workload, **overrides),
  }
  with _peer(workload, peer) as others:
    contestants = {name: program.run for name, program in own.items()}
    timings = timing.in_turn(contestants | others, rounds)
  record: dict[str, Any] = {
    **workload._asdict(),
    **environment(),
    'peak_tflops': peak / 1e12,
  }
  for name, program in own.items():
    record[name] = _program_record(program, timings[name], workload, peak)
  if peer:
    record['timm'] = {
      name.removeprefix('timm '): timings[name]._asdict() for name in others
    }
    record['ratio'] = {name: _ratio(name, timings) for name in own}
  if parts:
    step = programs.train_step(workload, 'published', **overrides)
    for _ in range(_WARM_UP):
      step.run()
    record['parts'] = profile.where_time_goes(
      step.run, step.text, directory=trace
    )
  return record


@contextlib.contextmanager
def _peer(workload: programs.Workload, wanted: bool) -> Iterator[dict]:
  if not wanted:
    yield {}
    return
  with timm_peer.started(*workload) as contestants:
    yield contestants


def _program_record(
  program: programs.Program,
  taken: timing.Timing,
  workload: programs.Workload,
  peak: float,
) -> dict[str, Any]:
  rate = program.flop / taken.median
  return {
    **taken._asdict(),
    'images_per_second': workload.batch / taken.median,
    'tflops': rate / 1e12,
    'share_of_peak': rate / peak,
    'trace_seconds': program.trace_seconds,
    'compile_seconds': program.compile_seconds,
    'memory_bytes': program.memory_bytes,
  }


def _ratio(name: str, timings: dict[str, timing.Timing]) -> float:
  """Our median over that of timm's better layout."""
  peers = (timings[f'timm {name} {layout}'] for layout in timm_peer.LAYOUTS)
  return timings[name].median / min(peer.median for peer in peers)


def lines(record: dict[str, Any]) -> list[str]:
  """A record as text.

  Args:
    record: of `measure`.
  """
  text = [
    f'{record["model"]}  {record["size"]} px, batch {record["batch"]},'
    f' {record["dtype"]}, {record["device"]}, jax {record["jax"]},'
    f' matrix products at {record["peak_tflops"]:.3f} TFLOP/s'
  ]
  for name in ('forward', 'train_step'):
    text.append(_program_line(name, record[name]))
  for name, taken in record.get('timm', {}).items():
    text.append(f'  timm {name:24} {_times(taken)}')
  for name, ratio in record.get('ratio', {}).items():
    text.append(f"  {name}: {ratio:.2f} of timm's time in its better layout")
  parts = record.get('parts', {})
  total = sum(parts.values())
  if parts:
    text.append("  the published recipe's step, by profile:")
  for name, seconds in parts.items():
    share = 100 * seconds / total
    text.append(f'    {name:28} {1e3 * seconds:9.1f} ms {share:5.1f}%')
  return text


def _times(taken: dict[str, Any]) -> str:
  low, high = 1e3 * taken['low'], 1e3 * taken['high']
  return f'{1e3 * taken["median"]:9.1f} ms ({low:.1f} to {high:.1f})'


def _program_line(name: str, row: dict[str, Any]) -> str:
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
