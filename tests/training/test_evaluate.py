import jax
import jax.numpy as jnp
import numpy as np
import pytest

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
  return evaluate_lib.evaluate_all(eval_step, {'': (params, state)}, batches)


def by_hand(model, params, state):
  batch = Split(EXAMPLES).whole
  images = (batch['image'].astype(np.float64) / 255 - 0.5) / 0.25
  (logits, _), _ = model.apply(
    jax.device_get(params), state, None, images.astype(np.float32), False
  )
  logits, label = np.asarray(logits, np.float64), batch['label']
  log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
  return {
    'top1': np.mean(logits.argmax(-1) == label),
    'loss': -np.mean(log_probs[np.arange(EXAMPLES), label]),
  }


@pytest.mark.parametrize('batch_size', [1, 5, 8, 23, 40])
def test_every_example_counts_once_for_any_batch_size(network, batch_size):
  model, eval_step, params, state = network
  result = evaluate(eval_step, params, state, Split(batch_size).iterate())
  expected = by_hand(model, params, state)
  assert result['count'] == EXAMPLES
  assert result['top1'] == expected['top1']
  assert 'top5' not in result  # there are five classes
  np.testing.assert_allclose(result['loss'], expected['loss'], rtol=1e-5)


def test_weights_and_average_are_evaluated_in_one_pass(network):
  _, eval_step, params, state = network
  ema = jax.tree.map(jnp.zeros_like, params)
  split = Split(8)
  evaluation = evaluate_lib.make_evaluation(
    eval_step, split, step_lib.make_fold(lambda params: params)
  )
  train_state, _ = tiny.setup()
  train_state = train_state._replace(
    params=params, state=state, ema_params=ema, ema_state=state
  )
  metrics = evaluation(train_state, lambda: False)
  own = evaluate(eval_step, params, state, split.iterate())
  average = evaluate(eval_step, ema, state, split.iterate())
  assert metrics['eval/top1'] == own['top1']
  assert metrics['eval/ema_loss'] == average['loss'] != own['loss']
  assert metrics['eval/count'] == EXAMPLES
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
  evaluation = evaluate_lib.make_evaluation(eval_step, Split(8), fold)
  metrics = evaluation(train_state, lambda: False)
  doubled = devices.replicate(jax.tree.map(lambda x: 2 * x, params))
  assert metrics['eval/loss'] == pytest.approx(
    by_hand(model, doubled, state)['loss'], rel=1e-5
  )
  assert len(folded) == 1


def test_a_padded_row_with_nan_does_not_leak(network):
  model, _, params, state = network

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
  assert np.isfinite(result['loss']) and result['count'] == EXAMPLES


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
