"""Requests to XLA change no result, and have the effect that they promise.

Their effect on whole networks is tested in test_trunk, test_agc and test_step.
"""

import re

import jax
import jax.export
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from nfnets import xla
from tests import helpers

# Several leaves of most shapes, in mixed order; one shape with a single leaf.
SHAPES = [(), (3,), (2, 4), (3,), (), (5,), (2, 4), (3, 3, 2, 4), (3,)]


def arrays(shapes=SHAPES, seed=0, dtypes=(jnp.float32,)):
  rng = np.random.default_rng(seed)
  return [
    jnp.asarray(rng.standard_normal(shape), dtypes[i % len(dtypes)])
    for i, shape in enumerate(shapes)
  ]


@pytest.mark.parametrize(
  ('shapes', 'dtypes'),
  [
    (SHAPES, (jnp.float32,)),
    (SHAPES, (jnp.float32, jnp.bfloat16)),
    ([()] * 3, (jnp.float32,)),
    ([(4,)], (jnp.float32,)),
    ([(4, 2)], (jnp.float32,)),
  ],
  ids=['all shapes', 'two dtypes', 'scalars', 'one vector', 'one matrix'],
)
def test_map_alike_equals_the_loop(shapes, dtypes):
  rows = arrays(shapes, 0, dtypes), arrays(shapes, 1)

  def results(factor, rows):
    def function(x, y):
      return (x * jnp.sum(y)).astype(x.dtype) * factor.astype(x.dtype)

    return xla.map_alike(function)(*rows)[0], [
      function(x, y) for x, y in zip(*rows, strict=True)
    ]

  # The factor is traced and not an argument of the function.
  actual, expected = jax.jit(results)(jnp.float32(2.5), rows)
  assert len(actual) == len(shapes)
  for one, other in zip(actual, expected, strict=True):
    assert (one.shape, one.dtype) == (other.shape, other.dtype)
    np.testing.assert_allclose(
      np.asarray(one, np.float32),
      np.asarray(other, np.float32),
      rtol=2**-7 if one.dtype == jnp.bfloat16 else helpers.RTOL_REDUCTION,
    )


def test_map_alike_may_change_shapes():
  xs = arrays()
  sums, stacks = xla.map_alike(lambda x: jnp.sum(x)[None])(xs)
  every = np.concatenate([np.ravel(stack) for stack in stacks])
  np.testing.assert_array_equal(np.sort(every), np.sort(np.ravel(sums)))
  for x, total in zip(xs, sums, strict=True):
    np.testing.assert_allclose(
      total, [np.sum(x)], rtol=helpers.RTOL_REDUCTION, atol=1e-6
    )


def test_map_alike_refuses_columns_of_different_lengths():
  with pytest.raises(ValueError, match='shorter'):
    xla.map_alike(jnp.add)(arrays(), arrays()[:-1])


@pytest.mark.parametrize(
  'shapes', [SHAPES, [(), (3,)], [(2, 4), (3, 3, 2, 4)], [(7,)]], ids=str
)
def test_global_norm_equals_optax(shapes):
  tree = {str(i): x for i, x in enumerate(arrays(shapes))}
  np.testing.assert_allclose(
    jax.jit(xla.global_norm)(tree),
    optax.tree.norm(tree),
    rtol=helpers.RTOL_REDUCTION,
  )


@pytest.mark.parametrize('jit', [False, True])
def test_update_if_updates_or_keeps_the_old_tree_bitwise(jit):
  # Values that any arithmetic would change: NaN with a payload and -0.
  bits = np.array([0x7FC12345, 0x80000000, 0x3F800001], np.uint32)
  old = {'a': jnp.asarray(bits.view(np.float32)), 'b': jnp.arange(4)}
  new = {'a': jnp.zeros(3), 'b': jnp.arange(4) + 10}

  def choose(condition, old, new):
    return xla.update_if(condition, lambda: new, old)

  choose = jax.jit(choose) if jit else choose
  kept = choose(jnp.asarray(False), old, new)
  np.testing.assert_array_equal(np.asarray(kept['a']).view(np.uint32), bits)
  np.testing.assert_array_equal(kept['b'], old['b'])
  updated = choose(jnp.asarray(True), old, new)
  jax.tree.map(np.testing.assert_array_equal, updated, new)


def test_update_if_is_a_branch_on_cpus_and_a_choice_on_gpus():
  def program(platform):
    function = jax.jit(
      lambda condition, old: xla.update_if(condition, lambda: old + 1, old)
    )
    arguments = jnp.asarray(True), jnp.ones(3)
    exported = jax.export.export(function, platforms=(platform,))(*arguments)
    return exported.mlir_module()

  cpu, cuda = program('cpu'), program('cuda')
  assert 'stablehlo.select' not in cpu
  assert 'stablehlo.select' in cuda
  # One case of both programs is the choice of the platform itself.
  assert cpu.count('stablehlo.case') == cuda.count('stablehlo.case') + 1


@pytest.mark.parametrize('barrier', [xla.opaque, xla.materialize])
def test_barriers_are_identities_with_gradients(barrier):
  x = arrays([(5,)])[0]
  np.testing.assert_array_equal(jax.jit(barrier)(x), x)
  gradient = jax.jit(jax.grad(lambda x: jnp.sum(barrier(x) ** 3)))(x)
  np.testing.assert_allclose(gradient, 3 * x**2, rtol=helpers.RTOL_ELEMENTWISE)


def test_materialize_keeps_the_structure_of_a_tree():
  tree = {'a': jnp.ones(2), 'b': [jnp.zeros(()), jnp.arange(3)]}
  same = jax.jit(xla.materialize)(tree)
  assert jax.tree.structure(same) == jax.tree.structure(tree)
  jax.tree.map(np.testing.assert_array_equal, same, tree)


def compiled(function, *arguments):
  """The text of a program compiled as `runtime.compilation` sets XLA up."""
  options = {'xla_disable_hlo_passes': 'cse_barrier_expander'}
  return jax.jit(function).lower(*arguments).compile(options).as_text()


def test_a_materialized_array_is_computed_once():
  def multiplications(keep):
    def halves(x):
      scaled = keep(x * 0.37)
      return jnp.sum(scaled[:8]), jnp.sum(scaled[8:], axis=0)

    return compiled(halves, jnp.ones((16, 5))).count(' multiply(')

  assert multiplications(xla.materialize) == 1
  # Otherwise both sums repeat it.
  assert multiplications(lambda x: x) == 2


def test_blocks_that_differ_in_an_opaque_constant_share_kernels():
  def kernels(count, hide):
    def network(x, weight):
      for i in range(count):
        x = jnp.sin(x * hide(jnp.float32(1.0 + i))) @ weight
      return x

    arguments = jnp.ones((4, 8)), jnp.ones((8, 8))
    return helpers.distinct_kernels(jax.jit(network).lower(*arguments))

  assert len(kernels(8, xla.opaque)) == len(kernels(4, xla.opaque)) > 0
  # The constants do make a difference where XLA sees them.
  assert len(kernels(8, lambda x: x)) > len(kernels(4, lambda x: x))


def test_small_rows_are_mapped_over_by_one_operation():
  def sums(xs):
    return xla.map_alike(lambda x: jnp.sum(x))(xs)[0]

  assert compiled(sums, [jnp.ones(8)] * 20).count(' reduce(') == 1


@pytest.mark.parametrize('shape', [(), (8,)], ids=str)
def test_mapping_over_more_equal_leaves_compiles_no_more_kernels(shape):
  def kernels(count):
    def scaled(xs):
      return [
        2 * x for x in xla.map_alike(lambda x: x / (1 + jnp.sum(x)))(xs)[0]
      ]

    return helpers.distinct_kernels(
      jax.jit(scaled).lower([jnp.ones(shape)] * count)
    )

  assert len(kernels(24)) == len(kernels(12)) > 0


def test_norm_of_more_equal_leaves_compiles_no_more_kernels():
  def kernels(count):
    tree = [jnp.ones((5, 7)), jnp.ones(8), jnp.ones(())] * count
    return helpers.distinct_kernels(jax.jit(xla.global_norm).lower(tree))

  assert len(kernels(24)) == len(kernels(12)) > 0


def test_trace_once_traces_once_per_shape_and_static_argument():
  traces = []

  def power(exponent, x):
    traces.append((exponent, x.shape))
    return x**exponent

  once = xla.trace_once(power, static_argnums=0)
  assert once.__name__ == 'power'

  @jax.jit
  def network(x, y):
    return once(2, x) + once(2, x), once(3, x), once(2, y)

  x, y = jnp.full(3, 2.0), jnp.ones(4)
  doubled, cubed, _ = network(x, y)
  np.testing.assert_array_equal(doubled, 8.0)
  np.testing.assert_array_equal(cubed, 8.0)
  assert traces == [(2, (3,)), (3, (3,)), (2, (4,))]


def test_row_major_constrains_the_layout_and_changes_no_number():
  fn = jax.jit(lambda x: xla.row_major(x.T) + 1)
  x = jnp.arange(6.0).reshape(2, 3)
  np.testing.assert_array_equal(fn(x), x.T + 1)
  constraint = r'LayoutConstraint.*result_layouts = \[dense<\[1, 0\]>'
  assert re.search(constraint, fn.lower(x).as_text())
