"""The programs that are measured: forward pass, train step, matrix product."""

import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nfnets import models
from nfnets.analysis import macs
from nfnets.augment import preprocess as preprocess_lib
from nfnets.optim import optimizer as optimizer_lib
from nfnets.training import devices, gradient
from nfnets.training import state as state_lib
from nfnets.training import step as step_lib

_PEAK_SIZE = 2048
_LEARNING_RATE = 1e-3


class Workload(NamedTuple):
  """What one row of the table measures.

  Attributes:
    model: its name.
    size: height and width of the images, pixels.
    batch: images.
    dtype: 'float32' or 'bfloat16'.
  """

  model: str
  size: int
  batch: int
  dtype: str


class Program(NamedTuple):
  """A compiled program and what its making took.

  Attributes:
    run: runs it once and returns the seconds.
    flop: floating-point operations of its convolutions and matrix products.
    trace_seconds: Python to StableHLO.
    compile_seconds: StableHLO to machine code.
    memory_bytes: arguments, results and temporaries at once; None where the
      platform does not say.
    text: the optimised program, HLO.
  """

  run: Callable[[], float]
  flop: float
  trace_seconds: float
  compile_seconds: float
  memory_bytes: int | None
  text: str


class _Compiled(NamedTuple):
  call: Any  # jax.stages.Compiled
  trace_seconds: float
  compile_seconds: float
  memory_bytes: int | None


def _compile(function: Any, *args: Any) -> _Compiled:
  start = time.perf_counter()
  lowered = function.lower(*args)
  middle = time.perf_counter()
  compiled = lowered.compile()
  end = time.perf_counter()
  memory = compiled.memory_analysis()
  total = None
  if memory is not None:
    total = (
      memory.argument_size_in_bytes
      + memory.output_size_in_bytes
      + memory.temp_size_in_bytes
      - memory.alias_size_in_bytes
    )
  return _Compiled(compiled, middle - start, end - middle, total)


def random_params(model: models.Model, size: int) -> tuple[Any, Any]:
  """Params and state of the model's shapes, drawn on the host.

  Args:
    model: of `create_model`.
    size: of the images, pixels.
  """
  images = jax.ShapeDtypeStruct((1, size, size, 3), 'float32')
  shapes = jax.eval_shape(model.init, jax.random.key(0), images)
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda x: (0.05 * rng.standard_normal(x.shape)).astype(x.dtype), shapes
  )


def forward(workload: Workload, **overrides: Any) -> Program:
  """The logits of a batch, as in prediction: constants baked into the filters.

  Args:
    workload: model, size, batch and dtype (of weights and images).
    **overrides: of `create_model`.
  """
  model = models.create_model(workload.model, **overrides)
  dtype = jnp.dtype(workload.dtype)
  params, state = random_params(model, workload.size)
  macs = macs.model_macs(model, workload.size)
  model, params = models.for_inference(model, params)
  params, state = jax.device_put(
    jax.tree.map(lambda x: x.astype(dtype), (params, state))
  )
  rng = np.random.default_rng(1)
  shape = (workload.batch, workload.size, workload.size, 3)
  images = jnp.asarray(rng.standard_normal(shape), dtype)

  def logits(params: Any, state: Any, images: jax.Array) -> jax.Array:
    return model.apply(params, state, None, images, False)[0][0]

  made = _compile(jax.jit(logits), params, state, images)

  def run() -> float:
    start = time.perf_counter()
    jax.block_until_ready(made.call(params, state, images))
    return time.perf_counter() - start

  flop = 2.0 * workload.batch * macs
  return Program(run, flop, *made[1:], made.call.as_text())


def train_step(
  workload: Workload, preprocess: str = 'none', **overrides: Any
) -> Program:
  """One train step on one device.

  Args:
    workload: model, size, batch (outputs) and dtype.
    preprocess: 'none' only normalises and keeps no moving average: loss,
      gradient, AGC and SGD, what peers are compared with. 'published' is the
      whole step of the recipe: flip, MixUp and CutMix, RandAugment, EMA.
    **overrides: of `create_model`.
  """
  model = models.create_model(workload.model, **overrides)
  published = preprocess == 'published'
  augment = _preprocess(model, published)
  optimizer = optimizer_lib.make_optimizer(_LEARNING_RATE)
  step = step_lib.make_train_step(
    gradient.make_gradient(
      model, augment, label_smoothing=0.1, dtype=workload.dtype
    ),
    optimizer,
    schedule=lambda _: _LEARNING_RATE,
    ema_decay=0.99999 if published else None,
  )
  params, net_state = jax.device_put(random_params(model, workload.size))
  state = devices.replicate(
    state_lib.from_params(params, net_state, optimizer, ema=published)
  )
  batch = _raw_batch(workload, augment.images_per_example)
  made = _compile(step, state, batch)
  holder = [state]

  def run() -> float:
    start = time.perf_counter()
    # The step donates its state.
    holder[0], scalars = made.call(holder[0], batch)
    jax.block_until_ready((holder[0], scalars))
    return time.perf_counter() - start

  # The two gradients are as many products again as the forward pass each.
  flop = 6.0 * workload.batch * macs.model_macs(model, workload.size)
  return Program(run, flop, *made[1:], made.call.as_text())


def _preprocess(
  model: models.Model, published: bool
) -> preprocess_lib.Preprocess:
  config = model.config
  return preprocess_lib.make_preprocess(
    num_classes=config.num_classes,
    mean=config.mean,
    std=config.std,
    flip=published,
    randaugment=(4, 10) if published else None,
    mixup_alpha=0.2 if published else None,
    cutmix_alpha=1.0 if published else None,
  )


def _raw_batch(workload: Workload, images_per_example: int) -> Any:
  rng = np.random.default_rng(2)
  count = workload.batch * images_per_example
  shape = (count, workload.size, workload.size, 3)
  return devices.shard_batch(
    {
      'image': rng.integers(0, 256, shape, np.uint8),
      'label': rng.integers(0, 1000, count, np.int32),
      'mask': np.ones(count, bool),
    }
  )


def matmul_peak(dtype: str) -> Program:
  """A product of square matrices, the most this device is seen to do.

  Args:
    dtype: of both factors and of the product.
  """
  rng = np.random.default_rng(3)
  shape = (_PEAK_SIZE, _PEAK_SIZE)
  factors = [jnp.asarray(rng.standard_normal(shape), dtype) for _ in range(2)]
  made = _compile(jax.jit(jnp.matmul), *factors)

  def run() -> float:
    start = time.perf_counter()
    jax.block_until_ready(made.call(*factors))
    return time.perf_counter() - start

  return Program(run, 2.0 * _PEAK_SIZE**3, *made[1:], made.call.as_text())
