"""Numbers from the predictions on a split: accuracy, classes, calibration."""

import math
from typing import NamedTuple

import numpy as np
from scipy import special

BINS = 15
"""Bins of the calibration error, as in Guo et al."""
_COVERAGE = 0.95


class Outcomes(NamedTuple):
  """What a network predicted for N examples.

  Attributes:
    position: each example's index in the split, int64[N], ascending.
    label: its class, int32[N].
    predicted: the most likely class, int32[N].
    confidence: that class's probability, float32[N].
    loss: -log of the true class's probability, float32[N], nats.
    top5: whether the true class is among the five most likely, bool[N]; None
      if there are at most five classes.
  """

  position: np.ndarray
  label: np.ndarray
  predicted: np.ndarray
  confidence: np.ndarray
  loss: np.ndarray
  top5: np.ndarray | None

  @property
  def correct(self) -> np.ndarray:
    """Whether each prediction is the true class, bool[N].

    A network that returns NaN is never correct.
    """
    return (self.predicted == self.label) & np.isfinite(self.confidence)


class Rate(NamedTuple):
  """A fraction of N examples and its 95% confidence interval."""

  value: float
  low: float
  high: float


class Classes(NamedTuple):
  """Numbers per class; 0 where the denominator is 0.

  Attributes:
    images: number of examples, int64[K].
    predicted: number of predictions, int64[K].
    precision: fraction of the predictions that are correct, float64[K].
    recall: fraction of the examples that are found, float64[K].
    f1: harmonic mean of the two, float64[K].
  """

  images: np.ndarray
  predicted: np.ndarray
  precision: np.ndarray
  recall: np.ndarray
  f1: np.ndarray


class Calibration(NamedTuple):
  """Confidence against accuracy in bins of equal width.

  Attributes:
    error: the expected calibration error.
    images: number of predictions in each bin, int64[BINS].
    confidence: their mean confidence, float64[BINS], 0 if there are none.
    accuracy: the fraction of them that is correct, float64[BINS].
  """

  error: float
  images: np.ndarray
  confidence: np.ndarray
  accuracy: np.ndarray


class Summary(NamedTuple):
  """The numbers of a report.

  Attributes:
    images: number of examples.
    top1: accuracy.
    top5: fraction with the true class among the five most likely; None with at
      most five classes.
    loss: mean loss, nats.
    precision: mean over the classes that have examples.
    recall: likewise; the balanced accuracy.
    f1: likewise.
    classes: numbers per class.
    calibration: the reliability diagram.
  """

  images: int
  top1: Rate
  top5: Rate | None
  loss: float
  precision: float
  recall: float
  f1: float
  classes: Classes
  calibration: Calibration


class Pairs(NamedTuple):
  """The entries of the confusion matrix that are not 0, largest first."""

  true: np.ndarray
  predicted: np.ndarray
  images: np.ndarray


def summarize(outcomes: Outcomes, num_classes: int = 0) -> Summary:
  """Computes all numbers of a report.

  Args:
    outcomes: the predictions, one or more.
    num_classes: number of classes; 0 if only the means over those with examples
      matter.
  """
  count = len(outcomes.label)
  classes = _per_class(outcomes, num_classes)
  present = classes.images > 0
  top5 = outcomes.top5
  return Summary(
    images=count,
    top1=wilson(int(outcomes.correct.sum()), count),
    top5=None if top5 is None else wilson(int(top5.sum()), count),
    loss=float(np.mean(outcomes.loss, dtype=np.float64)),
    precision=float(np.mean(classes.precision[present])),
    recall=float(np.mean(classes.recall[present])),
    f1=float(np.mean(classes.f1[present])),
    classes=classes,
    calibration=calibrate(outcomes),
  )


def metrics(summary: Summary) -> dict[str, float]:
  """Returns the numbers of a line of metrics under their names."""
  named = {'top1': summary.top1.value}
  if summary.top5 is not None:
    named['top5'] = summary.top5.value
  return named | {
    'loss': summary.loss,
    'top1_low': summary.top1.low,
    'top1_high': summary.top1.high,
    'macro_precision': summary.precision,
    'macro_recall': summary.recall,
    'macro_f1': summary.f1,
    'ece': summary.calibration.error,
  }


def wilson(successes: int, trials: int) -> Rate:
  """Computes a fraction and Wilson's interval for its probability.

  `scipy.stats` has the same, but takes a second to import.

  References:
    Wilson, `Probable inference, the law of succession, and statistical
    inference`, 1927 (equation of the confidence limits).
  """
  z2 = float(special.ndtri(0.5 + _COVERAGE / 2)) ** 2
  p = successes / trials
  center = (p + z2 / (2 * trials)) / (1 + z2 / trials)
  spread = math.sqrt(z2 * (p * (1 - p) + z2 / (4 * trials)) / trials)
  half = spread / (1 + z2 / trials)
  return Rate(
    p,
    max(0.0, center - half) if successes else 0.0,
    min(1.0, center + half) if successes < trials else 1.0,
  )


def calibrate(outcomes: Outcomes) -> Calibration:
  """Computes the expected calibration error and its bins.

  Bin m of M holds the confidences in ((m - 1) / M, m / M].

  References:
    Guo et al, `On Calibration of Modern Neural Networks
    <https://arxiv.org/abs/1706.04599>`_, 2017, equations 1 to 3.
  """
  confidence = np.nan_to_num(outcomes.confidence.astype(np.float64))
  bins = np.clip(np.ceil(confidence * BINS).astype(np.int64) - 1, 0, BINS - 1)
  count = np.bincount(bins, minlength=BINS)
  sums = (
    np.bincount(bins, weights=values, minlength=BINS)
    for values in (confidence, outcomes.correct.astype(np.float64))
  )
  means = [_ratio(total, count) for total in sums]
  gaps = np.abs(means[1] - means[0])
  return Calibration(float(np.sum(count * gaps) / len(bins)), count, *means)


def _per_class(outcomes: Outcomes, num_classes: int) -> Classes:
  correct = outcomes.correct
  length = 1 + max(
    num_classes - 1, int(outcomes.label.max()), int(outcomes.predicted.max())
  )
  count, predicted, hits = (
    np.bincount(labels, minlength=length)
    for labels in (
      outcomes.label,
      outcomes.predicted,
      outcomes.label[correct],
    )
  )
  return Classes(
    count,
    predicted,
    _ratio(hits, predicted),
    _ratio(hits, count),
    _ratio(2 * hits, count + predicted),
  )


def _ratio(above: np.ndarray, below: np.ndarray) -> np.ndarray:
  """Divides, with 0 where the denominator is 0."""
  return np.where(below > 0, above / np.maximum(below, 1), 0.0)


def confusion(outcomes: Outcomes) -> Pairs:
  """Counts the pairs of true and predicted class."""
  pairs, count = np.unique(
    np.stack([outcomes.label, outcomes.predicted]), axis=1, return_counts=True
  )
  order = np.argsort(-count, kind='stable')
  return Pairs(pairs[0][order], pairs[1][order], count[order])


def confident_mistakes(outcomes: Outcomes, most: int) -> np.ndarray:
  """Returns the rows of the mistakes with the highest confidence, int64[n]."""
  rows = np.flatnonzero(outcomes.predicted != outcomes.label)
  order = np.argsort(-outcomes.confidence[rows], kind='stable')
  return rows[order[:most]]


def uncertain_hits(outcomes: Outcomes, most: int) -> np.ndarray:
  """Returns the rows of the hits with the lowest confidence, int64[n]."""
  rows = np.flatnonzero(outcomes.correct)
  order = np.argsort(outcomes.confidence[rows], kind='stable')
  return rows[order[:most]]


def with_any_label(
  outcomes: Outcomes, labels: list[tuple[int, ...]]
) -> Outcomes:
  """Returns the outcomes where any of several labels is correct.

  The label of an example becomes the predicted class if that is one of its
  labels. The top 5 are unknown and dropped; so is the loss (NaN), as the
  probability of the other labels is unknown.

  Args:
    outcomes: the predictions.
    labels: the labels of each example of the split, at least one.

  References:
    Beyer et al, `Are we done with ImageNet?
    <https://arxiv.org/abs/2006.07159>`_, 2020, section 3.
  """
  label = np.array(
    [
      predicted if predicted in labels[index] else labels[index][0]
      for index, predicted in zip(
        outcomes.position.tolist(), outcomes.predicted.tolist(), strict=True
      )
    ],
    np.int32,
  )
  loss = np.full_like(outcomes.loss, np.nan)
  return outcomes._replace(label=label, loss=loss, top5=None)
