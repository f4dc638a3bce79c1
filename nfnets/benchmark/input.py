"""Measures images per second: our input pipeline, its ceiling, and peers.

All contestants read the same JPEG files, take random crops, resize them to the
same size and yield uint8 batches. They are measured in turn, several times, so
that all are exposed to the same load from the rest of the machine. The best
time counts.
"""

import contextlib
import functools
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib import resources
from typing import NamedTuple, TypedDict

import numpy as np

from nfnets import errors
from nfnets.benchmark import input_peers
from nfnets.data import crops, images, pipeline, positions, sources
from nfnets.data import source as source_lib
from nfnets.runtime import cores

HEIGHT, WIDTH = 375, 500
"""The most common size of ImageNet's images, pixels."""

CEILING = 'ceiling'
"""Decoding and cropping alone: the rate of one thread, times the threads."""

_OURS = 'nfnets'
_NUM_FILES = 256
_QUALITY = 95

# Returns the seconds for a number of batches.
_Contestant = Callable[[int], float]


class Rate(NamedTuple):
  """The result of one contestant."""

  name: str
  images_per_second: float
  reason: str = ''
  """Why there is no result (the rate is then NaN)."""


class RateRecord(TypedDict):
  """A `Rate` for JSON, which has no NaN: null if not measured."""

  name: str
  images_per_second: float | None
  reason: str


def write_photographs(folder: pathlib.Path) -> None:
  """Writes 256 JPEGs of 500x375, cropped from scikit-learn's two photographs.

  They have 77 KB on average (ImageNet's have 110 KB).

  Args:
    folder: where to write them, in one subfolder per class.
  """
  rng = np.random.default_rng(0)
  # scikit-learn's own loader needs Pillow.
  stored = resources.files('sklearn.datasets.images')
  photographs = [
    images.decode(stored.joinpath(name).read_bytes())
    for name in ('china.jpg', 'flower.jpg')
  ]
  for number in range(_NUM_FILES):
    photograph = photographs[number % 2]
    top = rng.integers(photograph.shape[0] - HEIGHT + 1)
    left = rng.integers(photograph.shape[1] - WIDTH + 1)
    crop = photograph[top : top + HEIGHT, left : left + WIDTH]
    path = folder / f'{number % 2}' / f'{number:03d}.jpg'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(images.encode_jpeg(crop, _QUALITY))


def measure(
  *,
  image_size: int = 224,
  batch_size: int = 64,
  num_threads: int | None = None,
  num_workers: int = 0,
  rounds: int = 5,
  seconds: float = 2.0,
  peer_python: str = sys.executable,
) -> list[Rate]:
  """Measures all contestants in turn.

  Args:
    image_size: height and width of the resized crops, pixels.
    batch_size: number of images per batch.
    num_threads: threads (or worker processes) per contestant; the available
      cores by default.
    num_workers: number of worker processes of our pipeline; 0 uses threads.
    rounds: number of measurements of each contestant.
    seconds: approximate duration of one measurement.
    peer_python: interpreter with tensorflow, torch, Pillow and NumPy, or
      several separated by commas: each peer runs in the first that has it.

  Returns:
    The rates of the ceiling, of our pipeline and of the peers; peers that are
    not installed come last, with a reason.
  """
  threads = num_threads or cores.available()
  with contextlib.ExitStack() as stack:
    folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
    write_photographs(folder)
    contestants: dict[str, _Contestant] = stack.enter_context(
      _ours(folder, image_size, batch_size, threads, num_workers)
    )
    missing = []
    for peer in input_peers.PEERS:
      try:
        contestants[peer] = stack.enter_context(
          _peer(
            peer,
            folder,
            (batch_size, image_size, threads),
            peer_python.split(','),
          )
        )
      except errors.UserError as error:
        missing.append(Rate(peer, float('nan'), str(error)))
    best = _in_turn(contestants, rounds, seconds)
  rates = {name: batch_size / value for name, value in best.items()}
  rates[CEILING] *= threads
  return [_rate(*item) for item in rates.items()] + missing


def _rate(name: str, images_per_second: float) -> Rate:
  if not images_per_second:
    return Rate(name, float('nan'), 'it exited during the measurement')
  return Rate(name, images_per_second)


def lines(rates: list[Rate]) -> list[str]:
  """Formats the rates as a table that compares ours with each.

  Args:
    rates: the rates from `measure`.
  """
  ours = next(rate for rate in rates if rate.name == _OURS).images_per_second
  rows = []
  for rate in rates:
    if rate.reason:
      rows.append(f'{rate.name:12} not measured: {rate.reason}')
      continue
    ratio = ours / rate.images_per_second
    rows.append(
      f'{rate.name:12} {rate.images_per_second:7.0f} images/s'
      f'   {_OURS} is {ratio:5.2f} times as fast'
    )
  return rows


def record(rate: Rate) -> RateRecord:
  """Converts a rate for JSON.

  Args:
    rate: a rate from `measure`.
  """
  return RateRecord(
    name=rate.name,
    images_per_second=None if rate.reason else rate.images_per_second,
    reason=rate.reason,
  )


@contextlib.contextmanager
def _ours(
  folder: pathlib.Path,
  image_size: int,
  batch_size: int,
  threads: int,
  num_workers: int,
) -> Iterator[dict[str, _Contestant]]:
  """Yields the ceiling and our pipeline."""
  source = sources.load_source(f'folder:{folder}', 'all')
  batches = pipeline.train_batches(
    source,
    batch_size=batch_size,
    image_size=image_size,
    seed=0,
    reading=pipeline.Reading(
      num_threads=None if num_workers else threads, num_workers=num_workers
    ),
  )
  with contextlib.closing(batches.iterate()) as iterator:
    yield {
      CEILING: lambda n: _bare_seconds(source, n * batch_size, image_size),
      _OURS: functools.partial(input_peers.seconds_of, iterator),
    }


def _in_turn(
  contestants: dict[str, _Contestant], rounds: int, seconds: float
) -> dict[str, float]:
  """Returns the least seconds per batch of each contestant."""
  count = {}
  for name, run in contestants.items():
    count[name] = max(2, round(seconds / (run(4) / 4)))
  best = dict.fromkeys(contestants, float('inf'))
  for _ in range(rounds):
    for name, run in contestants.items():
      best[name] = min(best[name], run(count[name]) / count[name])
  return best


def _bare_seconds(
  source: source_lib.Source, count: int, image_size: int
) -> float:
  """Times decoding, cropping and resizing alone, on one thread from memory."""
  files = [source[i]['image'] for i in range(len(source))]
  draws = positions.crop_draws(0, 0, len(files))
  out = np.empty((image_size, image_size, 3), np.uint8)
  start = time.perf_counter()
  for i in range(count):
    at = i % len(files)
    crops.random_resized_crop(files[at], draws[at], out)
  return time.perf_counter() - start


@contextlib.contextmanager
def _peer(
  name: str,
  folder: pathlib.Path,
  settings: tuple[int, int, int],
  pythons: list[str],
) -> Iterator[_Contestant]:
  """Starts a peer in its own process and yields the function that asks it.

  Args:
    name: the peer.
    folder: the folder of images.
    settings: batch size, image size and number of threads.
    pythons: interpreters to try in order.

  Raises:
    UserError: no interpreter has the peer; shows why the last one failed.
  """
  reason = ''
  for python in pythons:
    command = [python, input_peers.__file__, name, str(folder)]
    try:
      process = subprocess.Popen(
        [*command, *map(str, settings)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
      )
    except OSError as error:
      reason = f'{python}: {error.strerror}'
      continue
    try:
      if _ask(process, 1) is not None:
        yield functools.partial(_seconds, process)
        return
    finally:
      process.kill()
      _, output = process.communicate()
    reason = (output.strip().splitlines() or ['it exited'])[-1]
  raise errors.UserError(reason)


def _seconds(process: subprocess.Popen[str], count: int) -> float:
  """Returns the seconds for `count` batches; infinity if the peer exited."""
  seconds = _ask(process, count)
  return float('inf') if seconds is None else seconds


def _ask(process: subprocess.Popen[str], count: int) -> float | None:
  """Returns the seconds for `count` batches; None if the peer exited."""
  assert process.stdin and process.stdout
  try:
    process.stdin.write(f'{count}\n')
    process.stdin.flush()
  except BrokenPipeError:
    return None
  answer = process.stdout.readline()
  return float(answer) if answer else None
