"""Runs a network's ONNX file in other runtimes, each in a process of its own.

The runtimes compute on the CPU.
"""

import contextlib
import functools
import importlib.util
import pathlib
import sys
import tempfile
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from nfnets import errors
from nfnets.benchmark import child

if TYPE_CHECKING:
  from nfnets.benchmark import programs

# Packages -> the dtypes in which they compute a float32 network.
RUNTIMES = {
  'onnxruntime': ('float32',),
  'openvino': ('float32', 'bfloat16'),
}


@contextlib.contextmanager
def started(
  workload: 'programs.Workload', platform: str
) -> Iterator[dict[str, child.Contestant]]:
  """Exports the network and yields the runtimes that are installed.

  Args:
    workload: model, size, batch and dtype.
    platform: JAX's platform, which must be 'cpu'.

  Yields:
    A contestant per runtime, such as 'forward onnxruntime'; valid inside the
    context.

  Raises:
    UserError: JAX does not run on the CPU, onnx is not installed, no runtime
      for this dtype is, or one fails.
  """
  if platform != 'cpu':
    raise errors.UserError(
      f'--vs=onnx compares on CPUs, not on {platform}: set JAX_PLATFORMS=cpu'
    )
  able = [name for name, dtypes in RUNTIMES.items() if workload.dtype in dtypes]
  found = [name for name in able if importlib.util.find_spec(name)]
  if not found:
    raise errors.UserError(
      f'--vs=onnx in {workload.dtype} needs {" or ".join(able)}: pip install'
      f' {able[0]}'
    )
  with contextlib.ExitStack() as stack:
    folder = stack.enter_context(tempfile.TemporaryDirectory())
    path = pathlib.Path(folder, 'network.onnx')
    path.write_bytes(_export(workload))
    contestants: dict[str, child.Contestant] = {}
    for name in found:
      arguments = (name, path, *workload[1:])
      contestants |= stack.enter_context(
        child.started(name, __name__, arguments, [f'forward {name}'])
      )
    yield contestants


def _export(workload: 'programs.Workload') -> bytes:
  """Returns the network as an ONNX file, with random weights."""
  # Imported here because the child process must not load JAX.
  from nfnets import models, weights
  from nfnets.benchmark import programs
  from nfnets.export import onnx_graph

  model = models.create_model(workload.model, test_size=workload.size)
  params, state = programs.random_params(model, workload.size)
  return onnx_graph.export_onnx(
    weights.Loaded(model, params, state, (), 'timm')
  )


def _serve(runtime: str, path: str, size: int, batch: int, dtype: str) -> None:
  """Runs the child: answers requests until standard input ends."""
  shape = (batch, size, size, 3)
  images = np.random.default_rng(1).standard_normal(shape, np.float32)
  if runtime == 'onnxruntime':
    import onnxruntime

    session = onnxruntime.InferenceSession(
      path, providers=['CPUExecutionProvider']
    )
    call = functools.partial(session.run, None, {'images': images})
  else:
    import openvino

    core = openvino.Core()
    network = core.read_model(path)
    network.reshape(shape)
    # On CPUs with instructions for bfloat16 it would use them by default.
    precision = {'float32': 'f32', 'bfloat16': 'bf16'}[dtype]
    compiled = core.compile_model(
      network,
      'CPU',
      {'INFERENCE_PRECISION_HINT': precision, 'PERFORMANCE_HINT': 'LATENCY'},
    )
    call = functools.partial(compiled.create_infer_request().infer, [images])
  child.serve({f'forward {runtime}': call})


if __name__ == '__main__':
  _serve(
    sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
  )
