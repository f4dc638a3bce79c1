"""Reading of optimized HLO."""

import jax
import jax.numpy as jnp
import pytest
from jax import lax

from nfnets.analysis import hlo

TEXT = """HloModule jit_f, is_scheduled=true

%fused (p: f32[4], q: f32[4]) -> (f32[4], u8[0]) {
  %p = f32[4]{0} parameter(0)
  ROOT %add.0 = f32[4]{0} add(%p, %q)
}

%cheap (x.1: f32[4]) -> f32[4] {
  ROOT %neg.1 = f32[4]{0} negate(%x.1)
}

%costly (x.2: f32[4]) -> f32[4] {
  %neg.2 = f32[4]{0} negate(%x.2)
  ROOT %neg.3 = f32[4]{0} negate(%neg.2)
}

%body (s: f32[4]) -> f32[4] {
  %inner = f32[4]{0} while(%s), condition=%test, body=%costly, \
backend_config={"known_trip_count":{"n":"3"}}
  ROOT %neg.4 = f32[4]{0} negate(%inner)
}

ENTRY %main.7 (x: f32[4]) -> f32[4] {
  %x = f32[4]{0} parameter(0), metadata={op_name="x"}
  %fusion.1 = (f32[4]{0:T(8,128)(2,1)S(1)}, /*index=1*/u8[0]{0}) \
fusion(%x, /*index=1*/%x), kind=kLoop, calls=%fused
  %loop = f32[4]{0} while(%x), condition=%test, body=%body, \
backend_config={"known_trip_count":{"n":"5"}}
  %endless = f32[4]{0} while(%x), condition=%test, body=%cheap
  %cond.1 = f32[4]{0} conditional(%i, %x, %x), \
branch_computations={%cheap, %costly}
  %cond.2 = f32[4]{0} conditional(%i, %x, %x), true_computation=%costly, \
false_computation=%cheap
  %started = f32[4]{0} async-start(%x), calls=%costly
  ROOT %call.1 = f32[4]{0} call(%x), to_apply=%cheap
}
"""


def test_instructions_of_a_module():
  module = hlo.parse(TEXT)
  assert module.entry == 'main.7'
  assert list(module.computations) == [
    'fused', 'cheap', 'costly', 'body', 'main.7',
  ]  # fmt: skip
  fusion = module.computations['main.7'][1]
  assert fusion[:4] == (
    'fusion.1',
    '(f32[4]{0:T(8,128)(2,1)S(1)}, u8[0]{0})',
    'fusion',
    ('x', 'x'),
  )
  assert fusion.rest.endswith('calls=%fused')
  assert len(list(module.instructions())) == 15


def test_loops_count_per_iteration_and_branches_at_their_most_expensive():
  def negations(item):
    return item.opcode == 'negate'

  # loop 5 x (3 x 2 + 1), endless 1, two branches 2 each, async 2, call 1.
  assert hlo.total(hlo.parse(TEXT), negations) == 35 + 1 + 2 + 2 + 2 + 1


@pytest.mark.parametrize(
  ('shape', 'size'),
  [
    ('f32[8,4]{1,0:T(8,128)(2,1)S(1)}', 128),
    ('bf16[]', 2),
    ('pred[3]', 3),
    ('s4[10]', 5),
    ('f8e4m3fn[7]', 7),
    ('(f32[2]{0}, (u8[3], s64[1]), token[])', 19),
    ('f32[0,4]', 0),
  ],
)
def test_bytes_of_a_shape(shape, size):
  assert hlo.shape_bytes(shape) == size


def test_a_compiled_loop_is_counted():
  def loop(x):
    return lax.fori_loop(0, 7, lambda _, y: jnp.tanh(y @ y), x)

  compiled = jax.jit(loop).lower(jnp.ones((16, 16))).compile()
  module = hlo.parse(compiled.as_text())
  # However XLA computes them: alone, or in a fusion or call.
  products = hlo.total(
    module, lambda item: item.opcode in ('dot', 'custom-call', 'fusion')
  )
  assert products >= 7
