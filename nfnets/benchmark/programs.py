"""The programs to measure: forward pass, train step, matrix product."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from nfnets import models
from nfnets.analysis import macs
from nfnets.augment import preprocess as preprocess_lib
from nfnets.benchmark import timing
from nfnets.models import registry
from nfnets.optim import optimizer as optimizer_lib
from nfnets.runtime import memory
from nfnets.training import devices, gradient
from nfnets.training import state as state_lib
from nfnets.training import step as step_lib

_PEAK_SIZE = 2048
_LEARNING_RATE = 1e-3


class Workload(NamedTuple):
  """The settings of one measurement.

  Attributes:
    model: the model's name.
    size: height and width of the images, pixels.
    batch: number of images per batch.
    dtype: 'float32' or 'bfloat16'.
  """

  model: str
  size: int
  batch: int
  dtype: str


class Program(NamedTuple):
  """A compiled program and its costs.

  Attributes:
    run: runs the program, see `timing.Run`.
    flop: floating-point operations of its convolutions and matrix products.
    trace_seconds: time from Python to StableHLO.
    compile_seconds: time from StableHLO to machine code.
    memory_bytes: memory for arguments, results and temporaries together; None
      if the platform does not report it.
    text: the optimized HLO.
  """

  run: timing.Run
  flop: float
  trace_seconds: float
  compile_seconds: float
  memory_bytes: int | None
  text: str


class _Compiled(NamedTuple):
  call: jax.stages.Compiled
  trace_seconds: float
  compile_seconds: float

  def program(self, run: timing.Run, flop: float) -> Program:
    return Program(
      run=run,
      flop=flop,
      trace_seconds=self.trace_seconds,
      compile_seconds=self.compile_seconds,
      memory_bytes=memory.program_size(self.call),
      text=self.call.as_text(),
    )


def _compile(function: jax.stages.Wrapped, *args: object) -> _Compiled:
  """Compiles a jitted or pmapped function, timing both stages."""
  start = time.perf_counter()
  lowered = function.lower(*args)
  middle = time.perf_counter()
  compiled = lowered.compile()
  end = time.perf_counter()
  return _Compiled(compiled, middle - start, end - middle)


def _timed(call: Callable[..., object], *args: object) -> timing.Run:
  """Returns a function that times calls."""

  def run(count: int) -> float:
    start = time.perf_counter()
    for _ in range(count):
      result = call(*args)
    jax.block_until_ready(result)
    return time.perf_counter() - start

  return run


def forward(workload: Workload, **overrides: Any) -> Program:
  """Compiles the forward pass of a batch, with weights folded for inference.

  Args:
    workload: model, size, batch and dtype (of weights and images).
    **overrides: options of `models.create_model`.

  Returns:
    The program.
  """
  model = models.create_model(workload.model, **overrides)
  dtype = jnp.dtype(workload.dtype)
  params, state = random_params(model, workload.size)
  flop = 2.0 * workload.batch * macs.model_macs(model, workload.size)
  model, params = models.for_inference(model, params)
  params, state = jax.device_put(
    jax.tree.map(lambda x: x.astype(dtype), (params, state))
  )
  rng = np.random.default_rng(1)
  shape = (workload.batch, workload.size, workload.size, 3)
  images = jnp.asarray(rng.standard_normal(shape), dtype)

  def logits(
    params: registry.Params, state: registry.State, images: jax.Array
  ) -> jax.Array:
    return model.apply(params, state, None, images, False)[0][0]

  compiled = _compile(jax.jit(logits), params, state, images)
  return compiled.program(_timed(compiled.call, params, state, images), flop)


def train_step(
  workload: Workload, preprocess: str = 'none', **overrides: Any
) -> Program:
  """Compiles the train step of one device.

  Args:
    workload: model, size, batch (of outputs, if two images are mixed into one)
      and dtype.
    preprocess: 'none' only normalizes the images and keeps no moving average:
      loss, gradient, AGC and SGD, the step that peers are compared with.
      'published' is the whole step of the recipe, with flip, MixUp and CutMix,
      RandAugment and EMA.
    **overrides: options of `models.create_model`.

  Returns:
    The program. Each run updates the state that the next run starts from.
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
  compiled = _compile(step, state, batch)
  # The gradients of the weights and of the inputs cost as much as the forward
  # pass each.
  flop = 6.0 * workload.batch * macs.model_macs(model, workload.size)
  return compiled.program(_timed_steps(compiled.call, state, batch), flop)


def _timed_steps(
  call: Callable[..., tuple[state_lib.TrainState, object]],
  state: state_lib.TrainState,
  batch: Mapping[str, object],
) -> timing.Run:
  """Returns a function that times steps and keeps the new state."""

  def run(count: int) -> float:
    nonlocal state
    start = time.perf_counter()
    for _ in range(count):
      # The step donates its old state.
      state, scalars = call(state, batch)
    jax.block_until_ready((state, scalars))
    return time.perf_counter() - start

  return run


def random_params(
  model: models.Model, size: int
) -> tuple[registry.Params, registry.State]:
  """Draws parameters and state with NumPy, which compiles nothing.

  Args:
    model: the network.
    size: height and width of the images, pixels.
  """
  images = jax.ShapeDtypeStruct((1, size, size, 3), 'float32')
  shapes = jax.eval_shape(model.init, jax.random.key(0), images)
  rng = np.random.default_rng(0)
  return jax.tree.map(
    lambda x: (0.05 * rng.standard_normal(x.shape)).astype(x.dtype), shapes
  )


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


def _raw_batch(
  workload: Workload, images_per_example: int
) -> Mapping[str, object]:
  """Returns a batch of random images and labels, on the devices."""
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
  """Compiles a product of two square matrices of 2048 rows.

  Its rate serves as the peak of a device for which none is published.

  Args:
    dtype: dtype of the factors and of the product.

  Returns:
    The program.
  """
  rng = np.random.default_rng(3)
  shape = (_PEAK_SIZE, _PEAK_SIZE)
  factors = [jnp.asarray(rng.standard_normal(shape), dtype) for _ in range(2)]
  compiled = _compile(jax.jit(jnp.matmul), *factors)
  return compiled.program(_timed(compiled.call, *factors), 2.0 * _PEAK_SIZE**3)
