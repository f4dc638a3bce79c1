"""The programs that the benchmark compiles and runs."""

import jax
import numpy as np
import pytest

from nfnets import models
from nfnets.benchmark import profile, programs

SMALL = {'depth': (1,), 'widths': (16,)}
WORKLOAD = programs.Workload('test_nfnet', 32, 8, 'float32')


def test_matrix_product_counts_two_operations_per_mac(monkeypatch):
  monkeypatch.setattr(programs, '_PEAK_SIZE', 64)
  program = programs.matmul_peak('bfloat16')
  assert program.flop == 2 * 64**3
  assert program.run(1) > 0
  assert program.compile_seconds > 0
  # At least both factors and the product.
  assert program.memory_bytes >= 3 * 2 * 64**2
  assert 'bf16[64,64]' in program.text


def test_random_parameters_have_the_shapes_of_the_model():
  model = models.create_model('test_nfnet', **SMALL)
  images = jax.ShapeDtypeStruct((1, 32, 32, 3), 'float32')
  expected = jax.eval_shape(model.init, jax.random.key(0), images)
  result = programs.random_params(model, 32)
  assert jax.tree.structure(result) == jax.tree.structure(expected)
  for value, shape in zip(
    jax.tree.leaves(result), jax.tree.leaves(expected), strict=True
  ):
    assert value.shape == shape.shape
    assert value.dtype == shape.dtype
    assert np.std(value) > 0


@pytest.mark.parametrize(
  ('published', 'images_per_example'), [(False, 1), (True, 2)]
)
def test_batch_has_the_images_that_the_preprocessing_needs(
  published, images_per_example
):
  model = models.create_model('test_nfnet', **SMALL)
  preprocess = programs._preprocess(model, published)
  assert preprocess.images_per_example == images_per_example
  batch = programs._raw_batch(WORKLOAD, images_per_example)
  assert batch['image'].size == 8 * images_per_example * 32 * 32 * 3
  assert batch['image'].dtype == np.uint8


def test_steps_in_flight_continue_from_each_other():
  def step(state, batch):
    return state + batch, None

  run = programs._timed_steps(jax.jit(step, donate_argnums=0), np.zeros(1), 2)
  assert run(3) > 0
  states = []
  run = programs._timed_steps(lambda s, b: (states.append(s) or s + b, 0), 0, 2)
  run(3)
  run(1)
  assert states == [0, 2, 4, 6]


def parts(program):
  scopes = profile.scopes_by_operation(program.text)
  return set(map(profile.part_of, scopes.values()))


@pytest.mark.slow
def test_published_step_contains_the_whole_recipe():
  program = programs.train_step(WORKLOAD, 'published', **SMALL)
  # Each run starts from the state that the last one returned.
  assert program.run(1) > 0
  assert program.run(2) > 0
  recipe = {'augmentation', 'AGC', 'optimizer', 'EMA', 'classifier'}
  assert recipe <= parts(program)
  assert 'EMA' not in parts(programs.train_step(WORKLOAD, **SMALL))
