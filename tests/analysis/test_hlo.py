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


def test_loops_count_per_iteration_and_branches_at_their_mean():
  def negations(item):
    return item.opcode == 'negate'

  # loop 5 x (3 x 2 + 1), endless 1, branches 1.5 each, async 2, call 1.
  assert hlo.total(hlo.parse(TEXT), negations) == 35 + 1 + 1.5 + 1.5 + 2 + 1


# What a TPU's compiler prints.
TPU_LOOP = """HloModule jit_f

%body (s: (s32[], f32[4])) -> (s32[], f32[4]) {
  %neg = f32[4]{0} negate(%s)
}

%compared (i: s32[], n: s32[]) -> pred[] {
  ROOT %lt.1 = pred[]{:T(512)} compare(%i, %n), direction=LT
}

%condition (p: (s32[], f32[4])) -> pred[] {
  %constant.1 = s32[]{:T(128)} constant(32), metadata={op_name="jit(f)"}
  %i.1 = s32[]{:T(128)} get-tuple-element(%p), index=0
  ROOT %end
}

ENTRY %main (x: f32[4]) -> f32[4] {
  ROOT %loop = f32[4]{0} while(%x), condition=%condition, body=%body
}
"""
COMPARE = 'lt = pred[]{:T(512)} compare(%i.1, %constant.1), direction=LT'
FUSED = 'lt = pred[] fusion(%i.1, %constant.1), kind=kLoop, calls=%compared'


@pytest.mark.parametrize(
  ('end', 'iterations'),
  [
    (COMPARE, 32),
    (FUSED, 32),
    # Not a counter and its limit.
    (COMPARE.replace('LT', 'NE'), 1),
    (f'other = s32[] constant(5)\n  ROOT %{COMPARE}', 1),
  ],
)
def test_a_condition_tells_the_number_of_iterations(end, iterations):
  module = hlo.parse(TPU_LOOP.replace('end\n', f'{end}\n', 1))
  assert hlo.total(module, lambda item: item.opcode == 'negate') == iterations


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
