import jax
import jax.numpy as jnp
import numpy as np
import pytest
from sklearn.utils import class_weight

from nfnets import losses
from tests import helpers


def test_cross_entropy_matches_the_formula():
  rng = np.random.default_rng(0)
  logits = rng.standard_normal((5, 7)).astype(np.float32)
  labels = rng.dirichlet(np.ones(7), size=5).astype(np.float32)
  probs = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
  expected = -(labels * np.log(probs)).sum(axis=1)
  loss = losses.softmax_cross_entropy(jnp.asarray(logits), jnp.asarray(labels))
  assert loss.shape == (5,) and loss.dtype == jnp.float32
  np.testing.assert_allclose(loss, expected, rtol=helpers.RTOL_REDUCTION)


def test_cross_entropy_of_uniform_logits_is_the_log_of_the_classes():
  loss = losses.softmax_cross_entropy(jnp.zeros((2, 1000)), jnp.eye(1000)[:2])
  np.testing.assert_allclose(loss, np.log(1000), rtol=helpers.RTOL_ELEMENTWISE)


def test_cross_entropy_takes_bfloat16_and_large_logits():
  logits = jnp.array([[1e4, -1e4]], jnp.bfloat16)
  loss = losses.softmax_cross_entropy(logits, jnp.array([[0.0, 1.0]]))
  assert loss.dtype == jnp.float32
  np.testing.assert_allclose(loss, 2e4, rtol=0.01)


def test_cross_entropy_gradient_is_softmax_minus_labels():
  logits = jnp.array([[0.3, -1.0, 2.0]])
  labels = jnp.array([[0.2, 0.3, 0.5]])
  grad = jax.grad(lambda x: losses.softmax_cross_entropy(x, labels).sum())(
    logits
  )
  np.testing.assert_allclose(
    grad, jax.nn.softmax(logits) - labels, rtol=helpers.RTOL_REDUCTION
  )


def test_cross_entropy_refuses_different_shapes():
  with pytest.raises(ValueError, match=r'\(2, 3\).*\(2, 4\)'):
    losses.softmax_cross_entropy(jnp.zeros((2, 3)), jnp.zeros((2, 4)))


def test_smoothing_keeps_the_sum_and_moves_a_tenth():
  labels = jnp.array([[0.0, 0.25, 0.75, 0.0]])
  smooth = losses.smooth_labels(labels, 0.1)
  np.testing.assert_allclose(
    smooth, [[0.025, 0.25, 0.7, 0.025]], rtol=helpers.RTOL_ELEMENTWISE
  )


@pytest.mark.parametrize('smoothing', [-0.1, 1.0])
def test_smoothing_outside_0_to_1_is_refused(smoothing):
  with pytest.raises(ValueError, match=str(smoothing)):
    losses.smooth_labels(jnp.eye(3), smoothing)


def test_top_k():
  logits = jnp.array([[0.1, 0.9, 0.5, 0.2], [4.0, 3.0, 2.0, 1.0]])
  labels = jnp.array([2, 3])
  hits = [losses.top_k_correct(logits, labels, k).tolist() for k in (1, 2, 4)]
  assert hits == [[False, False], [True, False], [True, True]]


def test_top_k_of_few_classes_and_of_equal_logits():
  labels = jnp.array([0, 2])
  hits = losses.top_k_correct(jnp.zeros((2, 3)), labels, 5)
  assert hits.tolist() == [True, True]
  first = losses.top_k_correct(jnp.zeros((2, 3)), labels, 1)
  assert first.tolist() == [True, False]


def test_top_k_of_nan_is_not_correct():
  logits = jnp.full((1, 3), jnp.nan)
  assert not losses.top_k_correct(logits, jnp.array([0]), 1).any()


def test_balanced_weights_equal_those_of_scikit_learn():
  labels = np.repeat([0, 1, 3], [7, 3, 1])
  expected = class_weight.compute_class_weight(
    'balanced', classes=np.unique(labels), y=labels
  )
  weights = losses.balanced_weights(np.bincount(labels))
  np.testing.assert_allclose(weights[[0, 1, 3]], expected, rtol=1e-6)
  assert weights[2] == 0 and weights.dtype == np.float32
  assert np.mean(weights[labels]) == pytest.approx(1)


def test_weights_of_mixed_examples_are_means_of_their_classes():
  labels = jnp.array([[1.0, 0, 0], [0, 0.25, 0.75]])
  weights = losses.example_weights(labels, jnp.array([0.5, 1.0, 3.0]))
  np.testing.assert_allclose(weights, [0.5, 2.5], rtol=1e-6)
