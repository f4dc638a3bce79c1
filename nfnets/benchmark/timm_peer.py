"""Runs a model's counterpart in timm, on PyTorch, in a process of its own."""

import contextlib
import functools
import sys
import types
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from nfnets import errors
from nfnets.benchmark import child

if TYPE_CHECKING:
  from nfnets.benchmark import programs

KINDS = ('forward', 'train_step', 'train_step without AGC')
LAYOUTS = ('contiguous', 'channels_last')
# JAX's platforms -> torch's devices.
_DEVICES = {'cpu': 'cpu', 'gpu': 'cuda'}
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
  workload: 'programs.Workload', platform: str
) -> Iterator[dict[str, child.Contestant]]:
  """Starts the child process and yields its contestants.

  Args:
    workload: model, size, batch and dtype.
    platform: JAX's platform, such as 'cpu' or 'gpu'.

  Yields:
    A contestant per kind and layout, by names such as
    'train_step channels_last'; valid inside the context. On GPUs there is only
    channels_last, the layout of cuDNN's fast kernels.

  Raises:
    UserError: timm does not run here; shows the child's last line of output.
  """
  if platform not in _DEVICES:
    raise errors.UserError(f'timm does not run on {platform}: omit --vs')
  device = _DEVICES[platform]
  calls = [f'{kind} {layout}' for kind in KINDS for layout in _layouts(device)]
  arguments = (counterpart(workload.model), *workload[1:], device)
  with child.started('timm', __name__, arguments, calls) as contestants:
    yield contestants


def _layouts(device: str) -> tuple[str, ...]:
  return LAYOUTS if device == 'cpu' else LAYOUTS[1:]


def _serve(name: str, size: int, batch: int, dtype: str, device: str) -> None:
  """Runs the child: answers requests until standard input ends."""
  # timm imports torchvision, whose compiled extension may be missing.
  stub = types.ModuleType('torchvision._meta_registrations')
  sys.modules.setdefault('torchvision._meta_registrations', stub)
  import torch

  torch.backends.cudnn.benchmark = True
  calls: dict[str, Callable[[], None]] = {}
  for layout in _layouts(device):
    made = _calls(name, size, batch, dtype, layout, device)
    for kind, call in zip(KINDS, made, strict=True):
      calls[f'{kind} {layout}'] = call
  if device == 'cpu':
    child.serve(calls)
    return

  def peak_memory() -> int:
    peak = torch.cuda.max_memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    return peak

  child.serve(calls, torch.cuda.synchronize, peak_memory)


def _calls(
  name: str, size: int, batch: int, dtype: str, layout: str, device: str
) -> tuple[Callable[[], None], ...]:
  """Returns a call per kind: forward pass, train step with AGC and without."""
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

  def train_step(clip: bool) -> None:
    model.train()
    optimizer.zero_grad()
    with cast:
      loss = torch.nn.functional.cross_entropy(
        network(images), labels, label_smoothing=0.1
      )
    loss.backward()
    if clip:
      # All but the classifier, as in timm's training script.
      agc.adaptive_clip_grad(list(model.parameters())[:-2], _CLIPPING)
    optimizer.step()

  return (
    forward,
    functools.partial(train_step, True),
    functools.partial(train_step, False),
  )


if __name__ == '__main__':
  _serve(
    sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4], sys.argv[5]
  )
