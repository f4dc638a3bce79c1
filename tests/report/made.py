"""Predictions for the tests of reports."""

import numpy as np

from nfnets.report import numbers


def outcomes(classes=7, images=400, seed=0):
  """Returns random predictions, of which about a half are correct."""
  rng = np.random.default_rng(seed)
  label = rng.integers(0, classes, images).astype(np.int32)
  wrong = rng.integers(0, classes, images).astype(np.int32)
  predicted = np.where(rng.random(images) < 0.5, label, wrong)
  confidence = rng.uniform(1 / classes, 1, images).astype(np.float32)
  correct = predicted == label
  own = np.where(correct, confidence, (1 - confidence) / 2)
  return numbers.Outcomes(
    np.arange(images),
    label,
    predicted,
    confidence,
    -np.log(np.maximum(own, 1e-30)).astype(np.float32),
    correct | (rng.random(images) < 0.5) if classes > 5 else None,
  )
