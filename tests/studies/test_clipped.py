"""The fractions of clipped units, against AGC itself."""

import jax
import numpy as np
import optax
import pytest

from nfnets.optim import agc, masks
from nfnets.studies import agc_figure, clipped

PARAMS = {
  'NFNet/~/stem_conv0': {'w': np.ones((3, 3, 3, 4)), 'gain': np.ones(4)},
  'NFNet/~/nf_block/~/conv0': {'w': np.ones((1, 1, 4, 8))},
  'NFNet/~/nf_block/~/conv1': {'w': np.ones((3, 3, 2, 8))},
  'NFNet/~/nf_block': {'skip_gain': np.zeros(())},
  'NFNet/~/linear': {'w': np.ones((8, 10)), 'b': np.ones(10)},
}


def gradient():
  random = np.random.default_rng(0)
  return jax.tree.map(
    lambda x: 0.03 * random.normal(size=x.shape).astype(np.float32), PARAMS
  )


def test_fractions_are_those_of_agc():
  grads = gradient()
  probe = clipped.make_probe(0.02, 1e-3)
  update = jax.jit(probe.update)
  updates, fractions = update(grads, probe.init(PARAMS), PARAMS)
  assert not any(np.any(x) for x in jax.tree.leaves(updates))
  assert set(fractions) == {
    'stem',
    'gains',
    '1x1',
    '3x3',
    'skip gains',
    'biases',
  }
  clip = agc.adaptive_grad_clip(0.02, 1e-3, masks.clip_mask)
  _, state = jax.jit(clip.update)(grads, clip.init(PARAMS), PARAMS)
  units = {'stem': 4, 'gains': 1, '1x1': 8, '3x3': 8, 'skip gains': 1}
  units['biases'] = 1
  total = sum(units[kind] * fractions[kind] for kind in units)
  np.testing.assert_allclose(total / sum(units.values()), state.clipped, 1e-6)
  assert 0 < state.clipped < 1


def test_a_state_is_in_the_order_of_its_updates():
  probe = clipped.make_probe(0.02, 1e-3)
  before = probe.init(PARAMS)
  _, after = jax.jit(probe.update)(gradient(), before, PARAMS)
  assert jax.tree.structure(before) == jax.tree.structure(after)
  assert optax.tree.get(after, 'clipped') is None


@pytest.mark.parametrize(
  'module, name, kind',
  [
    ('NFNet/~/stem_conv2', 'w', 'stem'),
    ('NF_ResNet/~/initial_conv', 'w', 'stem'),
    ('NF_ResNet/~/initial_conv', 'gain', 'gains'),
    ('NFNet/~/nf_block_3/~/conv1b', 'w', '3x3'),
    ('NFNet/~/nf_block_3/~/conv_shortcut', 'w', '1x1'),
    ('NFNet/~/nf_block_3/~/conv2', 'bias', 'biases'),
    ('NFNet/~/nf_block_3', 'skip_gain', 'skip gains'),
    ('NFNet/~/nf_block_3/~/squeeze_excite/~/linear', 'b', 'attention'),
    ('NFNet/~/linear', 'b', 'biases'),
    ('ResNet/~/res_block_v2/~/bn0', 'scale', 'gains'),
    ('ResNet/~/res_block_v2/~/bn0', 'offset', 'biases'),
  ],
)
def test_kinds(module, name, kind):
  assert clipped.kind_of(module, name) == kind
  assert kind in agc_figure.KINDS
