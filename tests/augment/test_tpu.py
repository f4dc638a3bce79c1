"""The way for TPUs gives the same images, and gathers nothing large."""

import functools
import re

import jax
import numpy as np
import pytest
from sklearn import datasets

from nfnets.augment import ops, preprocess, tpu
from tests.augment import operation

NAMES = list(ops.operations(reference_quirks=False))
# 7.5, 45, 75 and 231 degrees.
ANGLES = (2.5, 15, 25, 77)


@pytest.fixture(scope='module')
def image():
  return datasets.load_sample_images().images[1][100:148, 200:237]


@pytest.mark.parametrize('name', NAMES)
def test_operations_equal_those_of_other_platforms(name, image):
  for magnitude in ANGLES if name == 'rotate' else (10, 15, 100):
    for seed in (0, 1):
      expected, result = (
        operation.jitted(name, for_tpu=for_tpu)(
          jax.random.key(seed), image, magnitude
        )
        for for_tpu in (False, True)
      )
      np.testing.assert_array_equal(result, expected)


def test_histogram_and_table_equal_numpy(image):
  planes = tpu.to_planes(image)
  counts = tpu.count_levels(planes)
  table = np.random.default_rng(0).integers(0, 256, (3, 256), np.uint8)
  mapped = tpu.look_up(planes, table)
  for channel in range(3):
    levels = image[..., channel]
    expected = np.bincount(levels.ravel(), minlength=256)
    np.testing.assert_array_equal(counts[channel], expected)
    np.testing.assert_array_equal(mapped[channel], table[channel][levels])


@functools.cache
def lowered(platform):
  """Returns the program of the published preprocessing, as StableHLO."""
  made = preprocess.make_preprocess(
    num_classes=10,
    mean=(0.5, 0.5, 0.5),
    std=(0.2, 0.2, 0.2),
    flip=True,
    randaugment=(4, 10),
    mixup_alpha=0.2,
    cutmix_alpha=1.0,
  )
  shapes = ((8, 40, 40, 3), 'uint8'), ((8,), 'int32'), ((4,), 'int32')
  arguments = [jax.ShapeDtypeStruct(*shape) for shape in shapes]
  traced = jax.jit(made.apply).trace(jax.random.key(0), *arguments)
  return traced.lower(lowering_platforms=(platform,)).as_text()


def gathered(program):
  """Returns the number of elements that each gather returns."""
  results = re.findall(r'"stablehlo\.gather"?.*-> tensor<([\dx]+)x', program)
  return [np.prod([int(n) for n in shape.split('x')]) for shape in results]


def test_the_program_for_tpus_has_no_large_gather_and_no_scatter():
  program = lowered('tpu')
  assert program.count('"stablehlo.gather"') == len(gathered(program))
  assert max(gathered(program)) <= 3
  assert 'stablehlo.scatter' not in program
  assert 'dot_general' in program


@pytest.mark.parametrize('platform', ['cpu', 'cuda'])
def test_other_platforms_gather(platform):
  program = lowered(platform)
  # Four images of 40 x 40 pixels and three channels.
  assert max(gathered(program)) == 4 * 40 * 40 * 3
  assert 'stablehlo.scatter' in program
  assert 'dot_general' not in program
