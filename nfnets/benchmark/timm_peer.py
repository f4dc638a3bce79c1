"""A model's counterpart in timm, on PyTorch, in a process of its own.

Two thread pools in one process would get in each other's way. The child runs
one measurement for each line it is sent, and answers with its seconds.
"""

import contextlib
import functools
import subprocess
import sys
import time
import types
from collections.abc import Callable, Iterator
from typing import Any

from nfnets import errors
from nfnets.runtime import allocator

LAYOUTS = ('contiguous', 'channels_last')
KINDS = ('forward', 'train_step')
_CLIPPING = 0.01


def counterpart(name: str) -> str:
  """The name that timm has for a model of ours.

  Args:
    name: of `models.list_models()`.

  Raises:
    UserError: timm has no such network.
  """
  if name.startswith('timm_'):
    return name.removeprefix('timm_')
  if name.startswith('nfnet_f') and not name.endswith('+'):
    # timm's dm_ networks have the published padding, gammas and skip gains.
    return f'dm_{name}'
  if name in ('nf_resnet50', 'nf_resnet101', 'resnet50', 'resnet101'):
    return name
  if name.startswith(('nfnet_l', 'eca_nfnet_l', 'test_nfnet')):
    return name
  if name.startswith('nf_regnet_b') and name[-1] <= '5':
    return name
  raise errors.UserError(f'timm has no counterpart of {name!r}: leave --vs out')


@contextlib.contextmanager
def started(
  name: str, size: int, batch: int, dtype: str
) -> Iterator[dict[str, Callable[[], float]]]:
  """Contestants 'timm forward contiguous' and so on, while inside.

  Args:
    name: of our model.
    size: height and width of the images, pixels.
    batch: images.
    dtype: 'float32' or 'bfloat16'.

  Raises:
    UserError: timm does not run here, with its last words.
  """
  command = [sys.executable, '-m', __name__, counterpart(name)]
  process = subprocess.Popen(
    [*command, str(size), str(batch), dtype],
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    # As PyTorch's users run it.
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


def _ask(process: subprocess.Popen, what: str) -> float:
  """Seconds of one measurement.

  Raises:
    UserError: the child has died.
  """
  assert process.stdin and process.stdout and process.stderr
  with contextlib.suppress(BrokenPipeError):
    process.stdin.write(f'{what}\n')
    process.stdin.flush()
  answer = process.stdout.readline()
  if not answer:
    words = process.stderr.read().strip().splitlines() or ['it died']
    raise errors.UserError(f'timm did not run: {words[-1]}')
  return float(answer)


def _serve(name: str, size: int, batch: int, dtype: str) -> None:
  """The child: answers lines of standard input until it ends."""
  # timm imports torchvision at the top, whose compiled part may be missing.
  stub = types.ModuleType('torchvision._meta_registrations')
  sys.modules.setdefault('torchvision._meta_registrations', stub)
  import torch

  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  contestants: dict[str, Callable[[], Any]] = {}
  for layout in LAYOUTS:
    made = _contestants(name, size, batch, dtype, layout, device)
    for kind, call in zip(KINDS, made, strict=True):
      contestants[f'{kind} {layout}'] = call
  for line in sys.stdin:
    call = contestants[line.strip()]
    if device == 'cuda':
      torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if device == 'cuda':
      torch.cuda.synchronize()
    print(time.perf_counter() - start, flush=True)


def _contestants(
  name: str, size: int, batch: int, dtype: str, layout: str, device: str
) -> tuple[Callable[[], Any], Callable[[], Any]]:
  """The forward pass, and forward, backward, timm's AGC and SGD."""
  import timm
  import torch
  from timm.utils import agc

  memory = torch.channels_last
  if layout == 'contiguous':
    memory = torch.contiguous_format
  model = timm.create_model(name).to(device).to(memory_format=memory).train()
  images = torch.randn(batch, 3, size, size, device=device)
  images = images.contiguous(memory_format=memory)
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
    # All but the classifier, as timm's own training script has it.
    agc.adaptive_clip_grad(list(model.parameters())[:-2], _CLIPPING)
    optimizer.step()

  return forward, train_step


if __name__ == '__main__':
  _serve(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
