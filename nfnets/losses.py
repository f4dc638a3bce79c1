"""Losses, weights and hits per example, from logits and labels."""

import jax
import jax.numpy as jnp
import numpy as np


def softmax_cross_entropy(logits: jax.Array, labels: jax.Array) -> jax.Array:
  """Computes the cross-entropy between soft labels and softmax(logits).

  Args:
    logits: float[B, K], any float dtype; cast to float32 first.
    labels: float[B, K], a distribution over the classes in each row.

  Returns:
    float32[B], the loss of each example in nats.

  Raises:
    ValueError: the shapes differ.
  """
  if logits.shape != labels.shape:
    raise ValueError(
      f'logits {logits.shape} and soft labels {labels.shape} differ in shape'
    )
  log_probs = jax.nn.log_softmax(logits.astype(jnp.float32), axis=-1)
  return -jnp.sum(labels.astype(jnp.float32) * log_probs, axis=-1)


def smooth_labels(labels: jax.Array, smoothing: float) -> jax.Array:
  """Moves a fraction of each label's mass to the uniform distribution.

  Applied after mixing, so mixed labels are smoothed only once.

  Args:
    labels: float[..., K], a distribution over the classes in the last axis.
    smoothing: the fraction, in [0, 1); 0.1 in the published recipes.

  Returns:
    float[..., K]: (1 - smoothing) * labels + smoothing / K.

  Raises:
    ValueError: `smoothing` is outside [0, 1).
  """
  if not 0 <= smoothing < 1:
    raise ValueError(f'smoothing must be in [0, 1), got {smoothing}')
  return labels * (1 - smoothing) + smoothing / labels.shape[-1]


def balanced_weights(counts: np.ndarray) -> np.ndarray:
  """Returns class weights that give every class the same total weight.

  The mean weight of an example is 1.

  Args:
    counts: int[K], number of examples of each class.

  Returns:
    float32[K]: n / (K' * n_k) for n examples in K' classes, of which n_k are in
    class k; 0 for classes without examples, which K' does not count.

  References:
    Pedregosa et al, `Scikit-learn: Machine Learning in Python
    <https://arxiv.org/abs/1201.0490>`_, 2011 (compute_class_weight).
  """
  parts = np.maximum(counts, 1) * np.count_nonzero(counts)
  return np.where(counts, np.sum(counts) / parts, 0).astype(np.float32)


def example_weights(labels: jax.Array, class_weights: jax.Array) -> jax.Array:
  """Returns the mean class weight of each example's classes.

  Args:
    labels: float[B, K], a distribution over the classes in each row.
    class_weights: float[K].

  Returns:
    float32[B]. A mixed example has the weights of its classes in the proportion
    in which it shows them.
  """
  return jnp.sum(labels.astype(jnp.float32) * class_weights[None], axis=-1)


def top_k_correct(logits: jax.Array, labels: jax.Array, k: int) -> jax.Array:
  """Returns whether the true class is among the k highest logits.

  Ties go to the lower class, as in `argmax`. A class with a logit that is not
  finite is never correct.

  Args:
    logits: float[B, K].
    labels: int[B], the true classes.
    k: the number of guesses; all K classes if K < k.

  Returns:
    bool[B].
  """
  _, guesses = jax.lax.top_k(logits, min(k, logits.shape[-1]))
  own = jnp.take_along_axis(logits, labels[:, None], axis=-1)[:, 0]
  hit = jnp.any(guesses == labels[:, None], axis=-1)
  return hit & jnp.isfinite(own)
