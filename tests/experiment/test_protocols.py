"""Test sets of ImageNet, in their published layouts, on a tiny network."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nfnets import errors
from nfnets.data import sources
from nfnets.experiment import build, evaluate, inputs, networks, protocols
from nfnets.report import numbers
from nfnets.weights import class_names
from tests.data import pictures
from tests.experiment import tiny

IDS = class_names.imagenet_ids()
NAMES = class_names.imagenet()


def write(path, number):
  path.parent.mkdir(parents=True, exist_ok=True)
  image, _ = pictures.digit(number)
  path.write_bytes(pictures.encode(image))


@pytest.fixture
def few(tmp_path):
  """ImageNet-R with three classes, two pictures in each."""
  for label in (7, 300, 900):
    for number in range(2):
      write(tmp_path / IDS[label] / f'{number}.jpg', label + number)
  return sources.load_source('imagenet_r', 'test', tmp_path)


def test_only_the_classes_of_the_split_can_be_predicted(few):
  task = protocols.make_task(few, NAMES, 'net')
  assert task.classes == (7, 300, 900)
  assert task.class_names == [NAMES[label] for label in task.classes]
  labels = [task.source[i]['label'] for i in range(6)]
  assert labels == [0, 0, 1, 1, 2, 2]


@pytest.mark.slow
def test_predictions_are_those_of_the_limited_logits(few):
  config = tiny.make_config(32)
  config.dataset = 'imagenet_r'
  model = build.make_model(config, 1000)
  shapes, _ = jax.eval_shape(
    model.init, jax.random.key(0), jnp.zeros((1, 32, 32, 3))
  )
  rng = np.random.default_rng(0)
  params = jax.tree.map(
    lambda x: rng.normal(size=x.shape).astype(x.dtype), shapes
  )
  state = networks._without_optimizer(params, {})
  network = networks.Network(model, state, {'': 'net'}, NAMES, 'net')
  measured = evaluate._measure(config, network, few)
  outcomes = measured.outcomes['']
  batch = inputs.eval_batches(config, measured.task.source, model)[0]
  real = batch['mask']
  images = (batch['image'][real] / 255 - model.config.mean) / model.config.std
  (logits, _), _ = jax.jit(model.apply, static_argnums=4)(
    params, {}, None, images.astype(np.float32), False
  )
  own = np.asarray(logits, np.float64)[:, [7, 300, 900]]
  np.testing.assert_array_equal(outcomes.predicted, own.argmax(-1))
  own -= own.max(-1, keepdims=True)
  own = np.exp(own) / np.exp(own).sum(-1, keepdims=True)
  np.testing.assert_allclose(outcomes.confidence, own.max(-1), rtol=1e-4)
  assert outcomes.top5 is None and len(outcomes.label) == 6


def test_a_network_without_these_classes_is_refused(few):
  with pytest.raises(errors.UserError, match='the classes of ImageNet'):
    protocols.make_task(few, ('a', 'b'), 'net')


def test_any_label_of_real_is_correct(tmp_path):
  for label in range(1000):
    (tmp_path / 'train' / IDS[label]).mkdir(parents=True)
    (tmp_path / 'train' / IDS[label] / '1.JPEG').touch()
  for number in (1, 2, 3):
    name = f'ILSVRC2012_val_{number:08d}.JPEG'
    write(tmp_path / 'val' / IDS[0] / name, number)
  (tmp_path / 'real.json').write_text(json.dumps([[4, 9], [], [5]]))
  source = sources.load_source('imagenet_real', 'test', tmp_path)
  task = protocols.make_task(source, NAMES, 'net')
  sets = task.label_sets
  assert sorted(sets) == [(4, 9), (5,)]
  predicted = np.array([9 if 9 in labels else 4 for labels in sets], np.int32)
  outcomes = numbers.Outcomes(
    np.arange(2),
    np.array([labels[0] for labels in sets], np.int32),
    predicted,
    np.full(2, 0.5, np.float32),
    np.ones(2, np.float32),
    np.ones(2, bool),
  )
  judged = task.judge(outcomes)
  np.testing.assert_array_equal(judged.correct, predicted == 9)
  other = tuple(reversed(IDS))
  with pytest.raises(errors.UserError, match='the classes of ImageNet'):
    protocols.make_task(source, other, 'net')


def test_other_data_sets_are_aligned_by_name():
  digits = sources.load_source('digits', 'test')
  known = tuple(map(str, range(9, -1, -1)))
  task = protocols.make_task(digits, known, 'net')
  assert task.classes is None and task.class_names == known
  assert task.source[0]['label'] == 9 - digits[0]['label']
