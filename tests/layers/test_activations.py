import chex
import jax
import numpy as np
import pytest
from jax import numpy as jnp

from nfnets import errors
from nfnets.analysis import signal_propagation
from nfnets.layers import activations
from tests import helpers

# Largest relative error of the published gammas, which are sampled estimates.
SAMPLING_ERROR = 1e-3


@pytest.mark.parametrize('name', activations.ACTIVATIONS)
def test_gamma_is_one_over_the_std_under_a_unit_gaussian(name):
  activation = activations.ACTIVATIONS[name]
  exact = signal_propagation.unit_variance_gain(activation.function)
  np.testing.assert_allclose(activation.gamma, exact, rtol=SAMPLING_ERROR)


@pytest.mark.parametrize('name', ['relu', 'gelu', 'silu', 'tanh'])
def test_a_scaled_unit_gaussian_keeps_its_variance(name):
  x = jax.random.normal(jax.random.key(0), (1_000_000,))
  y = activations.get(name).scaled(x)
  chex.assert_trees_all_close(jnp.var(y), jnp.float32(1.0), rtol=5e-3)


def test_gelu_is_the_tanh_form_and_gelu_erf_the_exact_one():
  x = np.linspace(-4.0, 4.0, 101, dtype=np.float32)
  inner = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
  np.testing.assert_allclose(
    activations.get('gelu').function(x),
    0.5 * x * (1 + np.tanh(inner)),
    rtol=helpers.RTOL_REDUCTION,
    atol=1e-6,
  )
  np.testing.assert_allclose(
    activations.get('gelu_erf').function(x),
    x * jax.scipy.stats.norm.cdf(x),
    rtol=helpers.RTOL_REDUCTION,
    atol=1e-6,
  )


def test_scaled_keeps_bfloat16():
  x = jnp.ones((2,), jnp.bfloat16)
  assert activations.get('silu').scaled(x).dtype == jnp.bfloat16


def test_an_unknown_name_is_shown():
  with pytest.raises(errors.UserError, match="'swish'.*silu"):
    activations.get('swish')


# Below -4, 1 + tanh(u) loses digits.
TAIL = 5e-6
# What the activations replace: JAX's own derivatives.
PLAIN = {
  'gelu': jax.nn.gelu,
  'gelu_erf': lambda x: jax.nn.gelu(x, approximate=False),
  'relu': jax.nn.relu,
  'silu': jax.nn.silu,
}


@pytest.mark.parametrize('name', PLAIN)
def test_derivatives_equal_those_that_jax_generates(name):
  x = jnp.linspace(-8.0, 8.0, 321)
  ours, plain = activations.get(name).function, PLAIN[name]
  for derivative, atol in (
    (lambda f: jax.vmap(jax.grad(f)), 2e-6),
    (lambda f: lambda x: jax.jvp(f, (x,), (jnp.ones_like(x),))[1], 2e-6),
    (lambda f: jax.vmap(jax.grad(jax.grad(f))), 2e-5),
  ):
    with jax.enable_x64(True):
      expected = derivative(plain)(np.asarray(x, np.float64))
    actual = derivative(ours)(x)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=atol)


@pytest.mark.parametrize(
  'platform, ours', [('cpu', True), ('cuda', True), ('tpu', False)]
)
@pytest.mark.parametrize(
  'name, operation', [('gelu', 'exponential'), ('silu', 'tanh')]
)
def test_only_tpus_take_the_derivative_that_jax_generates(
  name, operation, platform, ours
):
  """JAX's own derivatives lack the operation that ours are written with."""
  gradient = jax.jit(jax.grad(activations.get(name).function))
  lowered = gradient.trace(1.0).lower(lowering_platforms=(platform,))
  assert (f'.{operation}' in lowered.as_text()) == ours


@pytest.mark.parametrize('name', PLAIN)
def test_derivatives_on_tpus(name, monkeypatch):
  monkeypatch.setattr(
    jax.lax, 'platform_dependent', lambda *args, tpu, default: tpu(*args)
  )
  # No derivative of ours is used.
  ours = activations._keep_input(PLAIN[name], lambda x: x * jnp.nan)
  x = jnp.linspace(-8.0, 8.0, 321)
  np.testing.assert_allclose(
    jax.vmap(jax.grad(ours))(x),
    jax.vmap(jax.grad(PLAIN[name]))(x),
    rtol=1e-5,
    atol=2e-6,
  )


@pytest.mark.parametrize('name', PLAIN)
def test_bfloat16_rounds_only_the_result(name):
  x = jnp.linspace(-8.0, 8.0, 321).astype(jnp.bfloat16)
  wide = x.astype(jnp.float32)
  function = activations.get(name).function
  for actual, expected in (
    (function(x), PLAIN[name](wide)),
    (jax.vmap(jax.grad(function))(x), jax.vmap(jax.grad(PLAIN[name]))(wide)),
  ):
    assert actual.dtype == jnp.bfloat16
    np.testing.assert_allclose(
      np.asarray(actual, np.float32), expected, rtol=2**-8, atol=TAIL
    )


@pytest.mark.parametrize('name', PLAIN)
def test_the_gradient_keeps_the_input_or_what_the_next_layer_keeps(name):
  # The product's gradient needs the activation's output, too.
  x = jax.ShapeDtypeStruct((64, 8), jnp.float32)
  weight = jax.ShapeDtypeStruct((8, 8), jnp.float32)
  times = activations.get(name).times
  kept = jax.eval_shape(
    lambda x, w: jax.vjp(lambda x, w: times(x, 0.5) @ w, x, w)[1], x, weight
  )
  large = [leaf for leaf in jax.tree.leaves(kept) if leaf.shape == x.shape]
  assert len(large) == (1 if name == 'relu' else 2)


@pytest.mark.parametrize('name', PLAIN)
def test_times_of_a_mask(name):
  x = jax.random.normal(jax.random.key(0), (4, 3))
  mask = jnp.asarray([[1.0], [0.0], [1.0], [0.0]])
  times, plain = activations.get(name).times, PLAIN[name]
  outputs, pull = jax.vjp(lambda x: times(x, mask), x)
  expected, plain_pull = jax.vjp(lambda x: mask * plain(x), x)
  ones = jnp.ones_like(x)
  for actual, reference in (
    (outputs, expected),
    (pull(ones)[0], plain_pull(ones)[0]),
  ):
    np.testing.assert_allclose(actual, reference, rtol=1e-5, atol=1e-6)
