import numpy as np
import pytest
import sklearn.metrics
from scipy import stats

from nfnets.report import numbers
from tests.report import made


@pytest.mark.parametrize('classes', [1, 2, 7, 60])
def test_classes_equal_those_of_scikit_learn(classes):
  outcomes = made.outcomes(classes)
  summary = numbers.summarize(outcomes, classes)
  expected = sklearn.metrics.precision_recall_fscore_support(
    outcomes.label,
    outcomes.predicted,
    labels=range(classes),
    zero_division=0,
  )
  own = summary.classes
  found = own.precision, own.recall, own.f1, own.images
  for ours, theirs in zip(found, expected, strict=True):
    np.testing.assert_allclose(ours, theirs, rtol=1e-12)
  accuracy = sklearn.metrics.accuracy_score(outcomes.label, outcomes.predicted)
  assert summary.top1.value == pytest.approx(accuracy, rel=1e-12)
  assert summary.loss == pytest.approx(
    np.mean(outcomes.loss, dtype=np.float64), rel=1e-12
  )


def test_means_are_over_the_classes_with_examples():
  outcomes = made.outcomes(7)
  some = outcomes.label < 3  # but all seven are predicted
  outcomes = numbers.Outcomes(*(x[some] for x in outcomes))
  summary = numbers.summarize(outcomes, 10)
  means = sklearn.metrics.precision_recall_fscore_support(
    outcomes.label,
    outcomes.predicted,
    labels=range(3),
    average='macro',
    zero_division=0,
  )
  found = summary.precision, summary.recall, summary.f1
  np.testing.assert_allclose(found, means[:3], rtol=1e-12)
  assert len(summary.classes.images) == 10


@pytest.mark.parametrize('classes', [2, 7, 60])
def test_confusion_equals_that_of_scikit_learn(classes):
  outcomes = made.outcomes(classes)
  pairs = numbers.confusion(outcomes)
  matrix = np.zeros((classes, classes), int)
  matrix[pairs.true, pairs.predicted] = pairs.images
  expected = sklearn.metrics.confusion_matrix(
    outcomes.label, outcomes.predicted, labels=range(classes)
  )
  np.testing.assert_array_equal(matrix, expected)
  assert (np.diff(pairs.images) <= 0).all() and (pairs.images > 0).all()


@pytest.mark.parametrize('successes, trials', [(0, 9), (9, 9), (351, 360)])
def test_interval_equals_that_of_scipy(successes, trials):
  rate = numbers.wilson(successes, trials)
  expected = stats.binomtest(successes, trials).proportion_ci(method='wilson')
  assert rate.value == successes / trials
  np.testing.assert_allclose(
    rate[1:], (expected.low, expected.high), rtol=1e-12, atol=1e-15
  )


def test_calibration_by_hand():
  confidence = np.array([0.3, 0.35, 0.4, 0.9, 1.0, 1.0], np.float32)
  correct = np.array([True, False, False, True, True, False])
  label = np.zeros(6, np.int32)
  outcomes = numbers.Outcomes(
    np.arange(6),
    label,
    np.where(correct, 0, 1).astype(np.int32),
    confidence,
    np.ones(6, np.float32),
    None,
  )
  found = numbers.calibrate(outcomes)
  # Bins of a fifteenth: 0.3 in (4/15, 5/15], 0.35 and 0.4 in (5/15, 6/15],
  # 0.9 in (13/15, 14/15], 1 in (14/15, 1]. In float32 0.4 is above 6/15.
  images = np.zeros(15, int)
  images[[4, 5, 6, 13, 14]] = 1, 1, 1, 1, 2
  np.testing.assert_array_equal(found.images, images)
  gaps = [0.7, 0.35, 0.4, 0.1, 2 * abs(0.5 - 1)]
  assert found.error == pytest.approx(sum(gaps) / 6, rel=1e-6)
  assert found.accuracy[14] == 0.5 and found.confidence[14] == 1


def test_edges_of_the_bins():
  outcomes = made.outcomes(2, 4)._replace(
    confidence=np.array([0, 1 / 3, 0.5, 1], np.float64)
  )
  filled = np.flatnonzero(numbers.calibrate(outcomes).images)
  np.testing.assert_array_equal(filled, [0, 4, 7, 14])


def test_mistakes_and_hits_are_sorted():
  outcomes = made.outcomes()
  correct = outcomes.correct
  mistakes = numbers.confident_mistakes(outcomes, 10)
  hits = numbers.uncertain_hits(outcomes, 10)
  expected = np.sort(outcomes.confidence[~correct])[::-1][:10]
  np.testing.assert_array_equal(outcomes.confidence[mistakes], expected)
  expected = np.sort(outcomes.confidence[correct])[:10]
  np.testing.assert_array_equal(outcomes.confidence[hits], expected)
  assert correct[hits].all() and not correct[mistakes].any()


def test_any_of_several_labels_is_correct():
  outcomes = made.outcomes(7, 4)._replace(
    position=np.array([0, 2, 3, 5]),
    label=np.array([1, 1, 1, 1], np.int32),
    predicted=np.array([1, 2, 3, 4], np.int32),
  )
  sets = [(1,), (0,), (6, 2), (0, 1), (0,), (5,)]
  judged = numbers.with_any_label(outcomes, sets)
  np.testing.assert_array_equal(judged.label, [1, 2, 0, 5])
  np.testing.assert_array_equal(judged.correct, [True, True, False, False])
  summary = numbers.summarize(judged)
  assert summary.top1.value == 0.5 and summary.top5 is None
  assert np.isnan(summary.loss)


def test_a_network_that_returns_nan_is_never_correct():
  outcomes = made.outcomes(2, 4)._replace(
    confidence=np.full(4, np.nan, np.float32),
    loss=np.full(4, np.nan, np.float32),
  )
  summary = numbers.summarize(outcomes)
  assert summary.top1.value == 0 == summary.recall
  assert np.isfinite(summary.calibration.error)


def test_metrics_have_their_names():
  metrics = numbers.metrics(numbers.summarize(made.outcomes()))
  assert list(metrics) == [
    'top1',
    'top5',
    'loss',
    'top1_low',
    'top1_high',
    'macro_precision',
    'macro_recall',
    'macro_f1',
    'ece',
  ]
  assert metrics['top1_low'] < metrics['top1'] < metrics['top1_high']
  assert 'top5' not in numbers.metrics(numbers.summarize(made.outcomes(5)))
