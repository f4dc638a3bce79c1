"""Measures the signal propagation of one untrained network."""

import math
import pathlib

import jax
from jax import numpy as jnp

from nfnets import errors, models
from nfnets.analysis import noise, signal_propagation
from nfnets.experiment import build, checks, inputs
from nfnets.layers import activations
from nfnets.models import registry
from nfnets.studies import options, results

_WITHOUT_SKIP_GAINS = ('ResNet', 'Fixup_ResNet')
# Convolutions that read no activations.
_NOT_ACTIVATED = ('initial_conv', 'stem_conv0', 'final_conv')


def measure(
  run: results.Run, folder: pathlib.Path, start: pathlib.Path | None
) -> dict[str, float]:
  """Measures a network, with skip gains of 1.

  Args:
    run: its settings. Batch normalization uses the statistics of the images.
    folder: not used; nothing is saved.
    start: not used.

  Returns:
    For block i: 'square_mean_i', 'variance_i' and 'residual_i', see
    `signal_propagation.BlockStatistics`; with standardized convolutions also
    'expected_i', the variance that beta assumes, and 'analytic_i' and
    'analytic_residual_i', from `noise.variances`.
  """
  del folder, start
  config = checks.from_changes(run.settings)
  # The label of a model with plain filters is not its name.
  plain = run.labels['model'] != config.model.name
  model = build.make_model(config, 10)
  if model.config.family not in _WITHOUT_SKIP_GAINS:
    model = models.create_model(
      model.config.name, 10, **{'skip_gain_init': 1.0, **_options(run)}
    )
  if plain and not model.config.standardize:
    raise errors.UserError(
      f'--models {run.labels["model"]}: {config.model.name} has no standardized'
      f' convolutions: write {config.model.name}'
    )
  size = config.data.image_size or model.config.train_size
  images = _images(run, model, size)
  params, state = model.init(jax.random.key(config.seed), images[:1])
  numbers: dict[str, float] = {}
  if model.config.standardize and not plain:
    expected = signal_propagation.expected_variances(model.config)
    analytic = noise.variances(model.config, size)
    for i, (variance, found) in enumerate(zip(expected, analytic, strict=True)):
      numbers |= {
        f'expected_{i}': variance,
        f'analytic_{i}': found.variance,
        f'analytic_residual_{i}': found.residual_variance,
      }
  if plain:
    model, params = without_standardization(model, params)
  rows = _statistics(model, params, state, images)
  for i, row in enumerate(rows):
    numbers |= {
      f'square_mean_{i}': row.square_mean,
      f'variance_{i}': row.variance,
      f'residual_{i}': row.residual_variance,
    }
  return numbers


def without_standardization(
  model: models.Model, params: registry.Params
) -> tuple[models.Model, registry.Params]:
  """Returns the network with He's filters instead of standardized ones.

  Their variance is 1 / (fan_in E[f(x)^2]) for x ~ N(0, 1) if activation f
  precedes them (2 / fan_in for ReLU), and 1 / fan_in otherwise. Alpha and beta
  stay.

  Args:
    model: a network with standardized convolutions.
    params: its initial parameters.
  """
  function = activations.get(model.config.activation).function
  mean, variance = noise.moments(function, 1.0)
  factor = 1 / math.sqrt(variance + mean**2)
  folded, _ = models.folded(model)
  changed: registry.Params = {}
  for module, values in params.items():
    changed[module] = values
    if 'gain' in values:
      activated = module.rpartition('/')[2] not in _NOT_ACTIVATED
      weight = values['w'] * (factor if activated else 1.0)
      changed[module] = {'w': weight, 'bias': values['bias']}
  return folded, changed


def _statistics(
  model: models.Model,
  params: registry.Params,
  state: registry.State,
  images: jax.Array,
) -> list[signal_propagation.BlockStatistics]:
  # Only batch normalization differs in training; nothing is drawn.
  training = model.config.family == 'ResNet'

  @jax.jit
  def blocks(
    params: registry.Params, state: registry.State, images: jax.Array
  ) -> registry.Endpoints:
    key = jax.random.key(0) if training else None
    (_, endpoints), _ = model.apply(params, state, key, images, training)
    return {k: x for k, x in endpoints.items() if k.startswith('block_')}

  return signal_propagation.block_statistics(blocks(params, state, images))


def _images(run: results.Run, model: models.Model, size: int) -> jax.Array:
  """Returns images of mean 0 and variance 1 in each channel."""
  config = checks.from_changes(run.settings)
  count = config.train.batch_size
  if config.dataset == options.GAUSSIAN:
    key = jax.random.fold_in(jax.random.key(config.seed), 1)
    return jax.random.normal(key, (count, size, size, 3))
  source = inputs.load_source(config, 'train')
  batch = inputs.train_batches(config, source, model, 1)[0]
  images = jnp.asarray(batch['image'], jnp.float32)
  images -= jnp.mean(images, (0, 1, 2), keepdims=True)
  return images / jnp.std(images, (0, 1, 2), keepdims=True)


def _options(run: results.Run) -> dict[str, object]:
  """Returns the options of `create_model` in the user's settings."""
  return {
    name.removeprefix('model.'): value
    for name, value in run.settings.items()
    if name.startswith('model.') and name != 'model.name'
  }
