"""Time by part of a program."""

import time

import jax
import jax.numpy as jnp
import pytest

from nfnets.benchmark import profile
from nfnets.layers import convolution, ws_conv


@pytest.mark.parametrize(
  ('scopes', 'part'),
  [
    ('jit(f)/jvp(NFNet)/nf_block/conv0/conv2d_1x1/dot_general', 'conv2d_1x1'),
    (
      'jit(f)/transpose(jvp(NFNet))/conv1/conv2d_3x3_grouped_stride2/cond/add',
      'conv2d_3x3_grouped_stride2',
    ),
    ('jit(f)/jvp(NFNet)/nf_block/conv0/standardize/sub', 'standardization'),
    ('jit(f)/optimizer/agc/mul', 'AGC'),
    ('jit(f)/optimizer/mul', 'optimizer'),
    ('jit(f)/ema/add', 'EMA'),
    ('jit(f)/augment/vmap()/gather', 'augmentation'),
    ('jit(f)/jvp(NFNet)/linear/dot_general', 'classifier'),
    ('jit(f)/jvp(NFNet)/tanh', profile.OTHER),
    ('jit(f)/transpose(jvp(conv2d_1x1))/dot', 'conv2d_1x1'),
    ('', profile.OTHER),
  ],
)
def test_scopes_determine_the_part(scopes, part):
  assert profile.part_of(scopes) == part


def test_a_fusion_without_scopes_gets_those_of_its_operations():
  text = """
%fused (p: f32[4]) -> f32[4] {
  ROOT %c = f32[4] convolution(%p), metadata={op_name="jit(f)/conv2d_3x3/conv"}
}

ENTRY %main (x: f32[4]) -> f32[4] {
  %x = f32[4] parameter(0), metadata={op_name="x"}
  ROOT %ynn_fusion = f32[4] fusion(%x), kind=kCustom, calls=%fused
}
"""
  scopes = profile.scopes_by_operation(text)
  assert profile.part_of(scopes['ynn_fusion']) == 'conv2d_3x3'
  assert scopes['x'] == 'x'


def test_time_of_a_gradient_is_split_by_part(tmp_path):
  def loss(weight, gain, inputs):
    kernel = ws_conv.standardize_weight(weight, gain)
    return jnp.sum(jnp.tanh(convolution.conv2d(inputs, kernel, groups=2)))

  args = jnp.ones((3, 3, 64, 128)), jnp.ones(128), jnp.ones((2, 8, 8, 128))
  compiled = jax.jit(jax.grad(loss, (0, 1, 2))).lower(*args).compile()

  idle = 0.05  # seconds in which no operation runs

  def run():
    start = time.perf_counter()
    time.sleep(idle)
    jax.block_until_ready(compiled(*args))
    return time.perf_counter() - start

  run()
  text = compiled.as_text()
  seconds = profile.seconds_by_part(run, text, directory=tmp_path)
  assert {'conv2d_3x3_grouped', 'standardization'} <= set(seconds)
  assert all(value > 0 for value in seconds.values())
  assert seconds[profile.HOST] >= idle
  assert list(tmp_path.rglob('*.xplane.pb'))


@pytest.mark.parametrize(
  ('intervals', 'length'),
  [
    ([], 0),
    ([(5, 7), (1, 2)], 3),
    ([(1, 4), (2, 3), (3, 6)], 5),
    ([(1, 2), (2, 3)], 2),
  ],
)
def test_overlapping_intervals_count_once(intervals, length):
  assert profile.union_length(intervals) == length
