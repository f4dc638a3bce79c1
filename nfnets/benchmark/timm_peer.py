"""Runs a model's counterpart in timm, on PyTorch, in a process of its own.

In one process, the thread pools of XLA and PyTorch would compete. The child
process runs one measurement for each line that it receives on standard input
and answers with the seconds.
"""

import contextlib
import functools
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator

from nfnets import errors
from nfnets.benchmark import timing
from nfnets.runtime import allocator

LAYOUTS = ('contiguous', 'channels_last')
KINDS = ('forward', 'train_step')
_CLIPPING = 0.01
# timm's networks of the same name and size differ in what they compute, not in
# how much.
_SAME_SIZE = (
  *('nf_resnet50', 'nf_resnet101', 'resnet50', 'resnet101'),
  *(f'nf_regnet_b{number}' for number in range(6)),
)


def counterpart(name: str) -> str:
  """Returns timm's name for the counterpart of one of our models.

  Args:
    name: a name from `models.list_models()`.

  Raises:
    UserError: timm has no such network.
  """
  # Imported here because the child process must not load JAX.
  from nfnets.models import catalogue

  if peer := catalogue.timm_name(name):
    return peer
  if name in _SAME_SIZE:
    return name
  raise errors.UserError(f'timm has no counterpart of {name!r}: omit --vs')


@contextlib.contextmanager
def started(
  name: str, size: int, batch: int, dtype: str
) -> Iterator[dict[str, timing.Run]]:
  """Starts the child process and yields its measurements.

  Args:
    name: the name of our model.
    size: height and width of the images, pixels.
    batch: number of images per batch.
    dtype: 'float32' or 'bfloat16'.

  Yields:
    One function per kind and layout, by names such as
    'timm forward contiguous'; valid inside the context.

  Raises:
    UserError: timm does not run here; shows the child's last line of output.
  """
  command = [sys.executable, '-m', __name__, counterpart(name)]
  process = subprocess.Popen(
    [*command, str(size), str(batch), dtype],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    # The settings that users of PyTorch have.
    env=allocator.default_environment(),
  )
  try:
    _ask(process, f'{KINDS[0]} {LAYOUTS[0]}')
    yield {
      f'timm {kind} {layout}': functools.partial(
        _ask, process, f'{kind} {layout}'
      )
      for kind in KINDS
      for layout in LAYOUTS
    }
  finally:
    process.kill()
    process.communicate()


def _ask(process: subprocess.Popen[str], what: str) -> float:
  """Requests one measurement and returns its seconds.

  Raises:
    UserError: the child has exited.
  """
  assert process.stdin and process.stdout and process.stderr
  with contextlib.suppress(BrokenPipeError):
    process.stdin.write(f'{what}\n')
    process.stdin.flush()
  answer = process.stdout.readline()
  if not answer:
    output = process.stderr.read().strip().splitlines()
    reason = output[-1] if output else 'it exited without a message'
    raise errors.UserError(f'timm did not run: {reason}')
  return float(answer)


def _serve(name: str, size: int, batch: int, dtype: str) -> None:
  """Runs the child: answers requests until standard input ends."""
  # timm imports torchvision, whose compiled extension may be missing.
  stub = types.ModuleType('torchvision._meta_registrations')
  sys.modules.setdefault('torchvision._meta_registrations', stub)
  import torch

  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  calls: dict[str, Callable[[], None]] = {}
  for layout in LAYOUTS:
    pair = _calls(name, size, batch, dtype, layout, device)
    for kind, call in zip(KINDS, pair, strict=True):
      calls[f'{kind} {layout}'] = call
  for line in sys.stdin:
    call = calls[line.strip()]
    if device == 'cuda':
      torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if device == 'cuda':
      torch.cuda.synchronize()
    print(time.perf_counter() - start, flush=True)


def _calls(
  name: str, size: int, batch: int, dtype: str, layout: str, device: str
) -> tuple[Callable[[], None], Callable[[], None]]:
  """Returns the forward pass, and a train step with timm's AGC and SGD."""
  import timm
  import torch
  from timm.utils import agc

  memory_format = torch.channels_last
  if layout == 'contiguous':
    memory_format = torch.contiguous_format
  model = timm.create_model(name).to(device).train()
  model = model.to(memory_format=memory_format)
  images = torch.randn(batch, 3, size, size, device=device)
  images = images.contiguous(memory_format=memory_format)
  labels = torch.arange(batch, device=device) % 1000
  optimizer = torch.optim.SGD(
    model.parameters(), 1e-3, 0.9, weight_decay=2e-5, nesterov=True
  )
  cast = torch.autocast(device, torch.bfloat16, enabled=dtype == 'bfloat16')
  network = torch.compile(model) if device == 'cuda' else model

  def forward() -> None:
    model.eval()
    with torch.no_grad(), cast:
      network(images)

  def train_step() -> None:
    model.train()
    optimizer.zero_grad()
    with cast:
      loss = torch.nn.functional.cross_entropy(
        network(images), labels, label_smoothing=0.1
      )
    loss.backward()
    # All but the classifier, as in timm's training script.
    agc.adaptive_clip_grad(list(model.parameters())[:-2], _CLIPPING)
    optimizer.step()

  return forward, train_step


if __name__ == '__main__':
  _serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
