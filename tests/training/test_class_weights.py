"""Training on a loss with a weight per class."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfnets import losses
from nfnets.training import gradient
from tests import helpers
from tests.training import tiny

WEIGHTS = np.array([0.5, 2, 1, 0.25, 3], np.float32)
MIXING = {'flip': False, 'mixup_alpha': 1.0}


def gradient_of(batch, mixing, **options):
  model = tiny.make_model()
  preprocess = tiny.make_preprocess(**mixing)
  function = gradient.make_gradient(model, preprocess, **options)
  params, state = model.init(None, None)
  index = np.arange(len(batch['label']), dtype=np.int32)
  return jax.jit(function)(
    params, state, jnp.int32(7), {**batch, 'index': index}
  )


def test_the_gradient_is_that_of_the_weighted_mean():
  """On mixed labels, with the weights of the labels before smoothing."""
  batch = tiny.make_batch(20)
  model, preprocess = tiny.make_model(), tiny.make_preprocess(**MIXING)
  params, state = model.init(None, None)
  images, labels = jax.jit(preprocess.apply)(
    jax.random.fold_in(jax.random.key(0), 7),
    batch['image'],
    batch['label'],
    np.arange(10),
  )
  assert np.any((labels > 0.05) & (labels < 0.95))

  def loss_fn(params):
    (logits, _), _ = model.apply(params, state, None, images, True)
    log_probs = jax.nn.log_softmax(logits)
    rows = -jnp.sum((0.9 * labels + 0.1 / 5) * log_probs, -1)
    return jnp.sum(rows * (labels @ WEIGHTS)) / 10

  loss, expected = jax.jit(jax.value_and_grad(loss_fn))(params)
  result = gradient_of(
    batch, MIXING, label_smoothing=0.1, class_weights=WEIGHTS
  )
  tiny.assert_trees_close(result.grads, expected, helpers.RTOL_REDUCTION)
  np.testing.assert_allclose(result.metrics['loss'], loss, rtol=1e-5)


@pytest.mark.slow
def test_weights_do_not_depend_on_micro_batches():
  batch = tiny.make_batch(40)
  one = gradient_of(batch, {}, class_weights=WEIGHTS)
  four = gradient_of(batch, {}, class_weights=WEIGHTS, accumulation=4)
  tiny.assert_trees_close(one.grads, four.grads, helpers.RTOL_REDUCTION)
  weights = losses.balanced_weights(np.bincount(batch['label']))
  assert np.mean(weights[batch['label']]) == pytest.approx(1)
