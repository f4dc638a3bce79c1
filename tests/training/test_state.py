import jax
import jax.numpy as jnp
import numpy as np
import optax

from nfnets.training import state as state_lib
from tests.training import tiny


def test_the_initial_state():
  model = tiny.make_model(norm=True)
  optimizer = optax.sgd(0.1, momentum=0.9)
  state = state_lib.create_train_state(
    model, optimizer, jax.random.key(0), tiny.SIZE
  )
  params, net_state = model.init(jax.random.key(0), None)
  tiny.assert_trees_equal(state.params, params)
  tiny.assert_trees_equal(state.ema_params, params)
  tiny.assert_trees_equal(state.ema_state, net_state)
  assert state.step.dtype == jnp.int32 and int(state.step) == 0
  assert all(not np.any(x) for x in jax.tree.leaves(state.opt_state))


def test_no_two_arrays_share_a_buffer():
  # The step donates the state, and would donate a shared buffer twice.
  params, net_state = tiny.make_model(norm=True).init(None, None)
  state = state_lib.from_params(params, net_state, optax.sgd(0.1))
  pointers = [x.unsafe_buffer_pointer() for x in jax.tree.leaves(state)]
  assert len(set(pointers)) == len(pointers)


def test_no_average_is_kept_with_ema_false():
  params, net_state = tiny.make_model().init(None, None)
  state = state_lib.from_params(params, net_state, optax.sgd(0.1), ema=False)
  assert state.ema_params == {} and state.ema_state == {}
