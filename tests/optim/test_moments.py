"""AdamW, LAMB and layer-wise decay against formulas, and frozen parts."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from nfnets.optim import masks, optimizer, schedules
from tests import helpers


def network(seed=0):
  """Returns tensors of a stem, two blocks and a classifier."""
  blocks = {
    f'NFNet/~/{module}': tensors
    for module, tensors in {
      'stem_conv0': {'w': (3, 3, 2, 4), 'gain': (4,)},
      'nf_block/~/conv0': {'w': (1, 1, 4, 4), 'bias': (4,)},
      'nf_block_1': {'skip_gain': ()},
      'nf_block_1/~/conv0': {'w': (1, 1, 4, 4)},
      'final_conv': {'w': (1, 1, 4, 6)},
      'linear': {'w': (6, 3), 'b': (3,)},
    }.items()
  }
  rng = np.random.default_rng(seed)
  return jax.tree.map(
    lambda shape: jnp.asarray(rng.standard_normal(shape), jnp.float32),
    blocks,
    is_leaf=lambda x: isinstance(x, tuple),
  )


def unit_norm(x):
  axes = tuple(range(x.ndim - 1)) if x.ndim > 1 else None
  return np.sqrt((x**2).sum(axis=axes, keepdims=True))


def run(optim, params=None, steps=4):
  """Returns the parameters after a few steps."""
  params = network() if params is None else params
  state = optim.init(params)
  for step in range(steps):
    updates, state = optim.update(network(100 + step), state, params)
    params = optax.apply_updates(params, updates)
  return params


LAYERS = {
  'stem_conv0': 3,
  'nf_block/~/conv0': 2,
  'nf_block_1': 1,
  'nf_block_1/~/conv0': 1,
  'final_conv': 1,
  'linear': 0,
}


def moments_by_hand(path, param, rates, *, lamb, layer_decay, clipping):
  """Computes AdamW's or LAMB's update of one tensor in float64."""
  module, name = path
  weight = np.asarray(param, np.float64)
  mean, square = np.zeros_like(weight), np.zeros_like(weight)
  factor = layer_decay ** LAYERS[module.removeprefix('NFNet/~/')]
  for step, rate in enumerate(rates):
    grad = np.asarray(network(seed=100 + step)[module][name], np.float64)
    if clipping is not None and path != ('NFNet/~/linear', 'w'):
      norm = unit_norm(grad)
      limit = clipping * np.maximum(unit_norm(weight), 1e-3)
      grad = grad * np.where(norm > limit, limit / norm, 1)
    mean = 0.8 * mean + 0.2 * grad
    square = 0.95 * square + 0.05 * grad**2
    update = (mean / (1 - 0.8 ** (step + 1))) / (
      np.sqrt(square / (1 - 0.95 ** (step + 1))) + 1e-6
    )
    if name == 'w':
      update = update + 0.1 * weight
      if lamb:
        update *= np.sqrt((weight**2).sum() / (update**2).sum())
    weight = weight - rate * factor * update
  return weight


@pytest.mark.parametrize('name', ['adamw', 'lamb'])
@pytest.mark.parametrize('layer_decay, clipping', [(1, None), (0.5, 0.01)])
def test_moments_equal_the_formulas(name, layer_decay, clipping):
  schedule = schedules.warmup_cosine(0.5, 2, 10)
  optim = optimizer.make_optimizer(
    schedule,
    name=name,
    beta1=0.8,
    beta2=0.95,
    eps=1e-6,
    weight_decay=0.1,
    layer_decay=layer_decay,
    clipping=clipping,
  )
  params = new = network()
  state = optim.init(params)
  for step in range(4):
    grads = network(seed=100 + step)
    updates, state = optim.update(grads, state, new)
    new = optax.apply_updates(new, updates)
  rates = [float(schedule(step)) for step in range(4)]
  for module, tensors in params.items():
    for key, param in tensors.items():
      expected = moments_by_hand(
        (module, key),
        param,
        rates,
        lamb=name == 'lamb',
        layer_decay=layer_decay,
        clipping=clipping,
      )
      np.testing.assert_allclose(
        new[module][key], expected, rtol=1e-5, atol=1e-6
      )
  assert (optax.tree.get(state, 'clipped') is None) == (clipping is None)


@pytest.mark.parametrize('decay', [0.1, 0.0])
def test_adamw_equals_that_of_optax(decay):
  ours = optimizer.make_optimizer(
    0.5, name='adamw', weight_decay=decay, clipping=None
  )
  theirs = optax.adamw(0.5, weight_decay=decay, mask=masks.decay_mask)
  chex.assert_trees_all_equal(run(ours), run(theirs))


def test_layer_decay_scales_sgd_with_its_weight_decay():
  params, grads = network(), network(1)
  plain, scaled = (
    optimizer.make_optimizer(0.5, weight_decay=0.1, layer_decay=decay)
    for decay in (1.0, 0.75)
  )
  one, state = plain.update(grads, plain.init(params), params)
  other, scaled_state = scaled.update(grads, scaled.init(params), params)
  for module, layers in LAYERS.items():
    for name, update in one[f'NFNet/~/{module}'].items():
      np.testing.assert_allclose(
        other[f'NFNet/~/{module}'][name], update * 0.75**layers, rtol=1e-6
      )
  chex.assert_trees_all_equal(
    jax.tree.leaves(state), jax.tree.leaves(scaled_state)
  )


@pytest.mark.parametrize('name', ['sgd', 'adamw', 'lamb'])
def test_frozen_parts_have_no_state_and_do_not_count_as_clipped(name):
  params = network()

  def trainable(params):
    return masks.trained_mask(params, 2, (1, 1, 0, 0))

  optim = optimizer.make_optimizer(
    0.5, name=name, weight_decay=0.1, layer_decay=0.5, trainable=trainable
  )
  state = optim.init(params)
  updates, state = optim.update(network(1), state, params)
  moved = {
    module.removeprefix('NFNet/~/')
    for module, tensors in updates.items()
    if any(np.any(x) for x in tensors.values())
  }
  assert moved == {'nf_block_1', 'nf_block_1/~/conv0', 'final_conv', 'linear'}
  stored = sum(x.size for x in jax.tree.leaves(state) if x.size > 1)
  trained = 16 + 24 + 18 + 3  # and a skip gain
  assert stored == trained * (1 if name == 'sgd' else 2)
  # All units but the classifier's weight: 1 gain, 4 + 6 filters, 1 bias.
  clipped = float(optax.tree.get(state, 'clipped')) * 12
  assert clipped == pytest.approx(round(clipped)) and 10 <= clipped <= 12


def test_groups_of_other_optimizers():
  groups = optimizer.describe_groups(
    network(), name='lamb', weight_decay=0.1, layer_decay=0.75
  )
  assert {group.name: group.applies for group in groups} == {
    'weights': 'AGC 0.01, weight decay 0.1, LAMB, layer decay 0.75',
    'gains and biases': 'AGC 0.01, LAMB, layer decay 0.75',
    'classifier weight': 'weight decay 0.1, LAMB',
  }


def in_torch(make, rates, params):
  """Returns the parameters after a step of a PyTorch optimizer per rate."""
  torch = pytest.importorskip('torch')
  tensors = {
    (module, name): torch.nn.Parameter(torch.from_numpy(np.array(value)))
    for module, values in params.items()
    for name, value in values.items()
  }
  groups = [
    {
      'params': [x for path, x in tensors.items() if (path[1] == 'w') == is_w],
      'weight_decay': 0.1 if is_w else 0.0,
    }
    for is_w in (True, False)
  ]
  optim = make(groups)
  for step, rate in enumerate(rates):
    grads = network(100 + step)
    for (module, name), tensor in tensors.items():
      tensor.grad = torch.from_numpy(np.array(grads[module][name]))
    for group in optim.param_groups:
      group['lr'] = rate
    optim.step()
  return {path: tensor.detach().numpy() for path, tensor in tensors.items()}


def _torch_adamw(groups):
  torch = pytest.importorskip('torch')
  return torch.optim.AdamW(groups, betas=(0.8, 0.95), eps=1e-6)


def _timm_lamb(groups):
  helpers.timm()
  from timm import optim

  # By default, it also clips the norm of all gradients together to 1.
  return optim.Lamb(groups, betas=(0.8, 0.95), eps=1e-6, max_grad_norm=None)


@pytest.mark.slow
@pytest.mark.parametrize(
  'name, make', [('adamw', _torch_adamw), ('lamb', _timm_lamb)]
)
def test_moments_equal_those_of_torch_and_timm(name, make):
  schedule = schedules.warmup_cosine(0.5, 2, 10)
  ours = optimizer.make_optimizer(
    schedule,
    name=name,
    beta1=0.8,
    beta2=0.95,
    eps=1e-6,
    weight_decay=0.1,
    clipping=None,
  )
  rates = [float(schedule(step)) for step in range(6)]
  theirs = in_torch(make, rates, network())
  for module, values in run(ours, steps=6).items():
    for key, value in values.items():
      np.testing.assert_allclose(
        value, theirs[module, key], rtol=1e-5, atol=1e-6
      )
