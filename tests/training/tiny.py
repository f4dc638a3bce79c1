"""A network small enough to train in a test, with data and a step for it."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from nfnets.augment import preprocess as preprocess_lib
from nfnets.models import config as model_config
from nfnets.models import registry
from nfnets.optim import optimizer as optimizer_lib
from nfnets.optim import schedules
from nfnets.training import devices, gradient
from nfnets.training import state as state_lib
from nfnets.training import step as step_lib

SIZE = 8
CLASSES = 5


def make_model(drop_rate: float = 0.0, norm: bool = False) -> registry.Model:
  """Convolution, gelu, mean, linear; `norm` adds a running mean as state."""

  def init(key: jax.Array, images: jax.Array) -> tuple[Any, Any]:
    del key, images
    # From numpy, since compiling the normal distribution takes longest.
    rng = np.random.default_rng(0)

    def normal(*shape: int) -> jax.Array:
      return jnp.asarray(0.3 * rng.standard_normal(shape), jnp.float32)

    params = {
      'Tiny/~/conv': {'w': normal(3, 3, 3, 16), 'bias': jnp.zeros(16)},
      'Tiny/~/linear': {'w': normal(16, CLASSES), 'b': jnp.zeros(CLASSES)},
    }
    return params, {'Tiny/~/norm': {'mean': jnp.zeros(16)}} if norm else {}

  def apply(params, state, keys, images, is_training):
    conv, linear = params['Tiny/~/conv'], params['Tiny/~/linear']
    hidden = jax.lax.conv_general_dilated(
      images,
      conv['w'],
      (2, 2),
      'SAME',
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
    hidden = jax.nn.gelu(hidden + conv['bias'].reshape(1, 1, 1, -1))
    hidden = jnp.mean(hidden, axis=(1, 2))
    if norm and is_training:
      mean = 0.9 * state['Tiny/~/norm']['mean'] + 0.1 * jnp.mean(hidden, 0)
      state = {'Tiny/~/norm': {'mean': mean}}
    if drop_rate and is_training:
      keep = jax.vmap(
        lambda key: jax.random.bernoulli(key, 1 - drop_rate, (16,))
      )(keys)
      hidden = hidden * keep / (1 - drop_rate)
    logits = hidden @ linear['w'] + linear['b'].reshape(1, -1)
    return (logits, {'pool': hidden}), state

  config = model_config.ModelConfig('tiny', 'Tiny', '', standardize=False)
  return registry.Model(init, apply, config)


def poisoned_by_white(model: registry.Model) -> registry.Model:
  """Makes the loss NaN if a pixel is brighter than all of `make_batch`."""

  def apply(params, state, key, images, is_training):
    (logits, endpoints), state = model.apply(
      params, state, key, images, is_training
    )
    poison = jnp.where(jnp.max(images) > 1.9, jnp.nan, 0.0)
    return (logits + poison, endpoints), state

  return model._replace(apply=apply)


def make_preprocess(**options: Any) -> preprocess_lib.Preprocess:
  return preprocess_lib.make_preprocess(
    num_classes=CLASSES,
    mean=(0.5, 0.5, 0.5),
    std=(0.25, 0.25, 0.25),
    **{'flip': True, **options},
  )


def make_batch(size: int, number: int = 0) -> dict[str, np.ndarray]:
  rng = np.random.default_rng([7, number])
  label = rng.integers(0, CLASSES, size).astype(np.int32)
  noise = rng.integers(0, 128, (size, SIZE, SIZE, 3))
  image = (noise + 25 * label[:, None, None, None]).astype(np.uint8)
  return {'image': image, 'label': label, 'mask': np.ones(size, bool)}


def setup(
  *,
  model: registry.Model | None = None,
  preprocess: preprocess_lib.Preprocess | None = None,
  rate: float = 0.1,
  warmup_steps: int = 0,
  clipping: float | None = 0.01,
  **options: Any,
) -> tuple[state_lib.TrainState, step_lib.TrainStep]:
  """Returns a replicated initial state and the train step for it."""
  model = model or make_model()
  schedule = schedules.warmup_constant(rate, warmup_steps)
  optimizer = optimizer_lib.make_optimizer(
    schedule, clipping=clipping, **options.pop('optimizer', {})
  )
  ema_decay = options.pop('ema_decay', 0.99)
  skips = options.pop('skips', False)
  train_step = step_lib.make_train_step(
    gradient.make_gradient(model, preprocess or make_preprocess(), **options),
    optimizer,
    schedule=schedule,
    ema_decay=ema_decay,
  )
  state = state_lib.create_train_state(
    model,
    optimizer,
    jax.random.key(0),
    SIZE,
    ema=ema_decay is not None,
    skips=skips,
  )
  return devices.replicate(state), train_step


def assert_trees_equal(a: Any, b: Any) -> None:
  """Compares values and structure exactly."""
  jax.tree.map(
    np.testing.assert_array_equal, jax.device_get(a), jax.device_get(b)
  )


def assert_trees_close(a: Any, b: Any, rtol: float) -> None:
  """Compares each leaf to within `rtol` of its largest entry."""

  def check(x: np.ndarray, y: np.ndarray) -> None:
    scale = max(float(np.abs(y).max()), 1e-30)
    np.testing.assert_allclose(x, y, rtol=0, atol=rtol * scale)

  jax.tree.map(check, jax.device_get(a), jax.device_get(b))
