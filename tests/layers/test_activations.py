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
