"""Collective operations in HLO, from text and from compiled programs."""

import jax
import jax.numpy as jnp
from jax import lax

from nfnets.analysis import collectives


def test_bytes_are_those_of_the_results():
  text = """
  %a = (f32[8,4]{1,0}, bf16[3]{0}) all-reduce(%x, %y), channel_id=1
  ROOT %b = f32[] all-reduce-start(%z), to_apply=%add
  %c = f32[] all-reduce-done(%b)
  %d = pred[7]{0} all-gather(%p), dimensions={0}
  %e = f32[9]{0} fusion(%all-reduce), calls=%all-reduce.clone
"""
  assert collectives.collective_bytes(text) == {
    'all-reduce': 4 * 8 * 4 + 2 * 3 + 4,
    'all-gather': 7,
  }


def test_bytes_of_a_compiled_program():
  def sums(x):
    return lax.psum({'a': x, 'b': x[:2].astype(jnp.int32)}, 'devices')

  program = jax.pmap(sums, axis_name='devices').lower(jnp.ones((4, 10)))
  text = program.compile().as_text()
  assert collectives.collective_bytes(text) == {'all-reduce': 4 * 10 + 4 * 2}
  assert collectives.collective_bytes('') == {}
