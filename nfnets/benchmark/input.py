"""Images per second: our pipeline, its ceiling, and what people use otherwise.

Every contestant reads the same JPEG files, random-crops them to the same size
and yields uint8 batches. They are measured in turn, several times, so that
whatever else the machine does meets all of them; the best time counts.
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
from typing import NamedTuple

import cv2
import numpy as np

from nfnets import errors
from nfnets.benchmark import input_peers
from nfnets.data import crops, images, pipeline, places, sources
from nfnets.data import source as source_lib
from nfnets.runtime import cores

HEIGHT, WIDTH = 375, 500
"""ImageNet's usual size, pixels."""

_NUM_FILES = 256
_QUALITY = 95
_OURS = 'nfnets'
CEILING = 'ceiling'
"""The bare decode-and-crop rate of one thread, times the cores."""


class Rate(NamedTuple):
  """A contestant's result."""

  name: str
  images_per_second: float
  reason: str = ''
  """Why there is no result (then the rate is NaN)."""


def write_photographs(folder: pathlib.Path, seed: int = 0) -> None:
  """Writes JPEGs of 500x375 cut out of scikit-learn's two photographs.

  They are 77 KB on average (ImageNet's are 110 KB), in two folders of classes.
  """
  rng = np.random.default_rng(seed)
  # Not by scikit-learn's own function, which needs Pillow.
  stored = resources.files('sklearn.datasets.images')
  photographs = [
    images.decode(stored.joinpath(name).read_bytes())
    for name in ('china.jpg', 'flower.jpg')
  ]
  for number in range(_NUM_FILES):
    photograph = photographs[number % 2]
    top = rng.integers(photograph.shape[0] - HEIGHT + 1)
    left = rng.integers(photograph.shape[1] - WIDTH + 1)
    cut = photograph[top : top + HEIGHT, left : left + WIDTH, ::-1]
    quality = [cv2.IMWRITE_JPEG_QUALITY, _QUALITY]
    path = folder / f'{number % 2}' / f'{number:03d}.jpg'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(cv2.imencode('.jpg', cut, quality)[1].tobytes())


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
    image_size: side of the crops, pixels.
    batch_size: images.
    num_threads: that each may use; the cores by default.
    num_workers: worker processes of our pipeline.
    rounds: how often each is measured.
    seconds: about how long each measurement takes.
    peer_python: an interpreter with tensorflow, torch, Pillow and NumPy, as
      far as they are to be measured; several are separated by commas, the
      first that has a peer is used.

  Returns:
    The ceiling, our pipeline, and the peers, the missing ones with a reason.
  """
  threads = num_threads or cores.available()
  settings = (batch_size, image_size, threads)
  with contextlib.ExitStack() as stack:
    folder = pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
    write_photographs(folder)
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
    ours = stack.enter_context(contextlib.closing(batches.iterate()))
    contestants: dict[str, Callable[[int], float]] = {
      CEILING: lambda n: _bare_seconds(source, n * batch_size, image_size),
      _OURS: functools.partial(input_peers.seconds_of, ours),
    }
    missing = []
    for peer in input_peers.PEERS:
      try:
        contestants[peer] = stack.enter_context(
          _peer(peer, folder, settings, peer_python.split(','))
        )
      except errors.UserError as error:
        missing.append(Rate(peer, float('nan'), str(error)))
    best = _in_turn(contestants, rounds, seconds)
  rates = {name: batch_size / value for name, value in best.items()}
  rates[CEILING] *= threads
  return [Rate(name, rate) for name, rate in rates.items()] + missing


def lines(rates: list[Rate]) -> list[str]:
  """The results as a table, each beside ours."""
  ours = next(rate for rate in rates if rate.name == _OURS).images_per_second
  rows = []
  for rate in rates:
    if rate.reason:
      rows.append(f'{rate.name:12} not measured: {rate.reason}')
      continue
    share = ours / rate.images_per_second
    rows.append(
      f'{rate.name:12} {rate.images_per_second:7.0f} images/s'
      f'   {_OURS} is {share:5.2f} times as fast'
    )
  return rows


def _in_turn(
  contestants: dict[str, Callable[[int], float]], rounds: int, seconds: float
) -> dict[str, float]:
  """The least seconds per batch of each contestant."""
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
  """One thread, the files already in memory: decode, crop, resize."""
  files = [source[i]['image'] for i in range(len(source))]
  draws = places.crop_draws(0, 0, len(files))
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
) -> Iterator[Callable[[int], float]]:
  """A peer in a process of its own, asked through pipes.

  Raises:
    UserError: no interpreter has it.
  """
  last_words = 'no interpreter was named'
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
      last_words = f'{python}: {error.strerror}'
      continue
    with process:
      try:
        if _ask(process, 1) is not None:
          yield functools.partial(_ask_alive, process)
          return
        _, said = process.communicate()
        last_words = (said.strip().splitlines() or ['it died'])[-1]
      finally:
        process.kill()
  raise errors.UserError(last_words)


def _ask_alive(process: subprocess.Popen, count: int) -> float:
  seconds = _ask(process, count)
  return float('inf') if seconds is None else seconds


def _ask(process: subprocess.Popen, count: int) -> float | None:
  """Seconds for so many batches; None if the process has died."""
  assert process.stdin and process.stdout
  try:
    process.stdin.write(f'{count}\n')
    process.stdin.flush()
  except BrokenPipeError:
    return None
  answer = process.stdout.readline()
  return float(answer) if answer else None
