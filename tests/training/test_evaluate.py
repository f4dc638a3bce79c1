import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfnets.report import numbers
from nfnets.training import devices
from nfnets.training import evaluate as evaluate_lib
from nfnets.training import step as step_lib
from tests.training import tiny

EXAMPLES = 23


class Split:
  """A finite split in batches of any size; the last one is padded."""

  def __init__(self, batch_size, examples=EXAMPLES):
    self.whole = tiny.make_batch(EXAMPLES)
    self.batch_size = batch_size
    self.examples = examples
    self.closed = False

  def iterate(self, start=0):
    try:
      for first in range(start, self.examples, self.batch_size):
        rows = {
          k: x[first : first + self.batch_size] for k, x in self.whole.items()
        }
        missing = self.batch_size - len(rows['label'])
        yield {
          # The content of the padding must not matter.
          'image': np.pad(
            rows['image'],
            [(0, missing)] + [(0, 0)] * 3,
            constant_values=77,
          ),
          'label': np.pad(rows['label'], (0, missing), constant_values=4),
          'mask': np.pad(rows['mask'], (0, missing)),
        }
    finally:
      self.closed = True


@pytest.fixture(scope='module')
def network():
  model = tiny.make_model()
  params, state = model.init(jax.random.key(4), None)
  eval_step = step_lib.make_eval_step(model, mean=(0.5,) * 3, std=(0.25,) * 3)
  return model, eval_step, *devices.replicate((params, state))


def evaluate(eval_step, params, state, batches):
  networks = {'': (params, state)}
  return evaluate_lib.evaluate_all(eval_step, networks, batches)['']


def by_hand(model, params, state):
  batch = Split(EXAMPLES).whole
  images = (batch['image'].astype(np.float64) / 255 - 0.5) / 0.25
  (logits, _), _ = model.apply(
    jax.device_get(params), state, None, images.astype(np.float32), False
  )
  logits, label = np.asarray(logits, np.float64), batch['label']
  log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  return numbers.Outcomes(
    np.arange(EXAMPLES),
    label,
    logits.argmax(-1),
    np.exp(log_probs.max(-1)),
    -log_probs[np.arange(EXAMPLES), label],
    None,  # there are five classes
  )


def check(outcomes, expected):
  """Compares exactly what is exact, and the rest closely."""
  for name in ('position', 'label', 'predicted'):
    np.testing.assert_array_equal(
      getattr(outcomes, name), getattr(expected, name)
    )
  for name in ('confidence', 'loss'):
    np.testing.assert_allclose(
      getattr(outcomes, name), getattr(expected, name), rtol=1e-5
    )
  assert (outcomes.top5 is None) == (expected.top5 is None)


@pytest.mark.parametrize('batch_size', [1, 5, 8, 23, 40])
def test_every_example_counts_once_for_any_batch_size(network, batch_size):
  model, eval_step, params, state = network
  result = evaluate(eval_step, params, state, Split(batch_size).iterate())
  check(result, by_hand(model, params, state))
  assert len(set(result.predicted.tolist())) > 1


def test_weights_and_average_are_evaluated_in_one_pass(network):
  _, eval_step, params, state = network
  ema = jax.tree.map(jnp.zeros_like, params)
  split = Split(8)
  evaluation = evaluate_lib.Evaluation(
    eval_step, split, step_lib.make_fold(lambda params: params)
  )
  train_state, _ = tiny.setup()
  train_state = train_state._replace(
    params=params, state=state, ema_params=ema, ema_state=state
  )
  metrics = evaluation(train_state, lambda: False)
  own = evaluate(eval_step, params, state, split.iterate())
  average = evaluate(eval_step, ema, state, split.iterate())
  for prefix, outcomes in (('', own), ('ema_', average)):
    expected = numbers.metrics(numbers.summarize(outcomes))
    for name, value in expected.items():
      assert metrics.pop(f'eval/{prefix}{name}') == value
    check(evaluation.outcomes[prefix], outcomes)
  assert metrics == {'eval/count': EXAMPLES}
  assert split.closed
  train_state = train_state._replace(ema_params={}, ema_state={})
  assert not any('ema' in name for name in evaluation(train_state, bool))


def test_filters_are_folded_once_for_all_batches(network):
  model, eval_step, params, state = network
  double = step_lib.make_fold(
    lambda params: jax.tree.map(lambda x: 2 * x, params)
  )
  folded = []

  def fold(params):
    folded.append(params)
    return double(params)

  train_state, _ = tiny.setup()
  train_state = train_state._replace(
    params=params, state=state, ema_params={}, ema_state={}
  )
  evaluation = evaluate_lib.Evaluation(eval_step, Split(8), fold)
  metrics = evaluation(train_state, lambda: False)
  doubled = devices.replicate(jax.tree.map(lambda x: 2 * x, params))
  assert metrics['eval/loss'] == pytest.approx(
    by_hand(model, doubled, state).loss.mean(), rel=1e-5
  )
  assert len(folded) == 1


def test_a_padded_row_with_nan_does_not_leak(network):
  model, _, params, state = network
  expected = by_hand(model, params, state)

  def apply(params, state, key, images, is_training):
    (logits, endpoints), state = model.apply(
      params, state, key, images, is_training
    )
    padded = jnp.max(images, axis=(1, 2, 3)) == jnp.min(images, axis=(1, 2, 3))
    return (jnp.where(padded[:, None], jnp.nan, logits), endpoints), state

  eval_step = step_lib.make_eval_step(
    model._replace(apply=apply), mean=(0.5,) * 3, std=(0.25,) * 3
  )
  result = evaluate(eval_step, params, state, Split(8).iterate())
  check(result, expected)


def test_unreadable_examples_leave_a_gap(network):
  model, eval_step, params, state = network
  split = Split(8)
  split.whole['mask'][[3, 20]] = False
  result = evaluate(eval_step, params, state, split.iterate())
  left = np.delete(np.arange(EXAMPLES), [3, 20])
  expected = by_hand(model, params, state)
  check(
    result,
    numbers.Outcomes(*(x if x is None else x[left] for x in expected)),
  )


def test_rows_of_several_processes_are_put_in_order(monkeypatch):
  # Two processes with three rows each, padded to four; batch starts at 12.
  monkeypatch.setattr('jax.process_count', lambda: 2)
  index = np.array([6, 0, 1, 2, 3, 4, 5, 7], np.int32)
  rows = {'index': index, 'mask': np.isin(index, (0, 1, 2, 4, 5, 6))}
  rows['label'] = 10 * index
  found = evaluate_lib._fetch({'': rows}, 12, 3)['']
  np.testing.assert_array_equal(found['position'], [17, 12, 13, 14, 15, 16])
  np.testing.assert_array_equal(found['label'], [60, 0, 10, 20, 40, 50])


def test_top5_needs_more_than_five_classes(network):
  model, _, params, state = network
  rng = np.random.default_rng(1)
  extra = jnp.asarray(rng.normal(size=(1, 4)), jnp.float32)

  def apply(params, state, key, images, is_training):
    (logits, endpoints), state = model.apply(
      params, state, key, images, is_training
    )
    more = jnp.broadcast_to(extra, (len(logits), 4))
    return (jnp.concatenate([logits, more], 1), endpoints), state

  eval_step = step_lib.make_eval_step(
    model._replace(apply=apply), mean=(0.5,) * 3, std=(0.25,) * 3
  )
  result = evaluate(eval_step, params, state, Split(8).iterate())
  batch = Split(EXAMPLES).whole
  images = (batch['image'] / 255 - 0.5) / 0.25
  (logits, _), _ = apply(params, state, None, images.astype(np.float32), False)
  best = np.argsort(-np.asarray(logits), -1)[:, :5]
  expected = (best == batch['label'][:, None]).any(-1)
  np.testing.assert_array_equal(result.top5, expected)
  assert 0 < expected.mean() < 1


def test_stops_when_should_stop_returns_true(network):
  _, eval_step, params, state = network
  answers = iter([False, True])
  with pytest.raises(evaluate_lib.Interrupted):
    evaluate_lib.evaluate_all(
      eval_step,
      {'': (params, state)},
      Split(8).iterate(),
      should_stop=lambda: next(answers),
    )


def test_a_split_without_examples_is_refused(network):
  _, eval_step, params, state = network
  with pytest.raises(ValueError, match='0 examples'):
    evaluate(eval_step, params, state, [])
