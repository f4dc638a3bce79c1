"""Three optimizer steps of F0 against the published reference."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from nfnets import losses, models
from nfnets.optim import optimizer
from tests import filled, helpers
from tests.golden import fill

CASES = helpers.golden()['three_steps']


# A minute of compiling.
@pytest.mark.slow
@pytest.mark.parametrize('case', CASES)
def test_three_steps_of_f0(case):
  golden, clipping = CASES[case], float(case.partition('clip=')[2])
  model = models.create_model('nfnet_f0', drop_rate=0.0, stochdepth_rate=0.0)
  images = jnp.asarray(fill.image(4, golden['size']))
  labels = jax.nn.one_hot(jnp.array([1, 2, 3, 999]), 1000)
  optim = optimizer.make_optimizer(0.1, clipping=clipping)

  def loss_fn(params):
    # In training, dropout and stochastic depth need a key even with rate 0.
    (logits, _), _ = model.apply(params, {}, jax.random.key(1), images, True)
    smooth = losses.smooth_labels(labels, 0.1)
    return losses.softmax_cross_entropy(logits, smooth).mean()

  @jax.jit
  def step(params, opt_state):
    loss, grads = jax.value_and_grad(loss_fn)(params)
    updates, opt_state = optim.update(grads, opt_state, params)
    return loss, optax.apply_updates(params, updates), opt_state

  start = filled.params(model)
  params, opt_state, found = start, optim.init(start), []
  for _ in range(3):
    loss, params, opt_state = step(params, opt_state)
    found.append(float(loss))
  # The loss after the last step comes from a fourth step, which is discarded.
  found.append(float(step(params, opt_state)[0]))
  np.testing.assert_allclose(found, golden['losses'], rtol=1e-3)

  moves = jax.tree.map(
    lambda new, old: np.linalg.norm(np.asarray(new) - np.asarray(old)),
    params,
    start,
  )
  for path, norm in golden['update_norms'].items():
    module, name = path.rsplit('/', 1)
    np.testing.assert_allclose(
      moves[module][name], norm, rtol=0.01, err_msg=path
    )
  total = np.linalg.norm(jax.tree.leaves(moves))
  np.testing.assert_allclose(total, golden['total'], rtol=0.01)
