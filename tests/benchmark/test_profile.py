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

  def run(count):
    start = time.perf_counter()
    for _ in range(count):
      time.sleep(idle)
      jax.block_until_ready(compiled(*args))
    return time.perf_counter() - start

  run(1)
  text = compiled.as_text()
  found = profile.measure(run, text, directory=tmp_path)
  assert {'conv2d_3x3_grouped', 'standardization'} <= set(found.parts)
  assert all(value > 0 for value in found.parts.values())
  assert found.parts[profile.HOST] >= idle
  assert found.busy > 0
  assert found.total == pytest.approx(found.busy + found.parts[profile.HOST])
  assert list(tmp_path.rglob('*.xplane.pb'))


# The program of the made-up traces.
PROGRAM = """
ENTRY %main (x: f32[4]) -> f32[4] {
  %input_add_reduce_fusion.9 = f32[4] fusion(%x), calls=%a, \
metadata={op_name="jit(f)/optimizer/agc/mul"}
  %cudnn-conv.1 = f32[4] custom-call(%x), \
metadata={op_name="jit(f)/conv2d_3x3/conv"}
  %while.2 = f32[4] while(%x), body=%b, \
metadata={op_name="jit(f)/augment/while"}
  ROOT %tanh.3 = f32[4] tanh(%x), metadata={op_name="jit(f)/tanh"}
}
"""


def made_up(*planes):
  """Builds a trace of planes: (name, {line: [(event, operation, us, us)]})."""
  text, names = [], {}

  def number(name):
    return names.setdefault(name, len(names) + 1)

  for plane, lines in planes:
    names.clear()
    rows = []
    for line, events in lines.items():
      rows.append(f'lines {{ name: "{line}"')
      for name, operation, start, end in events:
        stat = f'stats {{ metadata_id: 1 str_value: "{operation}" }}'
        stat = stat if operation else ''
        rows.append(
          f'events {{ metadata_id: {number(name)} offset_ps: {start * 10**6}'
          f' duration_ps: {(end - start) * 10**6} {stat} }}'
        )
      rows.append('}')
    known = [
      f'event_metadata {{ key: {i} value {{ id: {i} name: "{name}" }} }}'
      for name, i in names.items()
    ]
    stat = 'stat_metadata { key: 1 value { id: 1 name: "hlo_op" } }'
    text += [f'planes {{ name: "{plane}"', *rows, *known, stat, '}']
  return jax.profiler.ProfileData.from_serialized_xspace(
    jax.profiler.ProfileData.text_proto_to_serialized_xspace('\n'.join(text))
  )


def microseconds(data, wall):
  """Summarizes a trace of one run of `wall` us."""
  found = profile.summarize(data, PROGRAM, 1e-6 * wall, 1)
  parts = {name: round(1e6 * value, 6) for name, value in found.parts.items()}
  return parts, round(1e6 * found.busy, 6)


LAUNCHES = ('/host:CPU', {'python': [('launch', 'tanh.3', 0, 90)]})


def test_kernels_in_command_buffers_are_found_by_their_name():
  kernels = [
    ('input_add_reduce_fusion_9', '', 10, 20),
    ('sm90_xmma_fprop_implicit_gemm', 'cudnn-conv.1', 20, 50),
    ('nvjet_tst_128x64', '', 60, 65),
  ]
  data = made_up(LAUNCHES, ('/device:GPU:0', {'Stream #7(Compute)': kernels}))
  assert microseconds(data, 100) == (
    {
      profile.HOST: 55,
      'conv2d_3x3': 30,
      'AGC': 10,
      profile.UNKNOWN: 5,
    },
    45,
  )


def test_the_host_is_waited_for_only_while_no_stream_runs():
  data = made_up(
    (
      '/device:GPU:0',
      {
        'Stream #7(Compute)': [('k', 'tanh.3', 0, 40), ('k', 'tanh.3', 70, 80)],
        'Stream #9(MemcpyD2D)': [('MemcpyD2D', '', 30, 60)],
        # Sums up the others.
        'XLA Modules': [('jit_f', '', 0, 100)],
      },
    ),
  )
  assert microseconds(data, 100) == (
    {profile.OTHER: 50, profile.UNKNOWN: 30, profile.HOST: 30},
    70,
  )


def test_devices_are_averaged():
  stream = 'Stream #7(Compute)'
  data = made_up(
    ('/device:GPU:0', {stream: [('k', 'tanh.3', 0, 80)]}),
    ('/device:GPU:1', {stream: [('k', 'cudnn-conv.1', 10, 50)]}),
    ('/device:CUSTOM:x', {'Steps': [('step', '', 0, 100)]}),
  )
  assert microseconds(data, 100) == (
    {profile.OTHER: 40, profile.HOST: 40, 'conv2d_3x3': 20},
    60,
  )


def test_operations_of_a_tpu_are_named_by_their_lines():
  operations = [
    ('%while.2 = f32[4] while(%x), body=%b', '', 0, 60),
    ('%tanh.3 = f32[4] tanh(%x)', '', 10, 30),
    ('%cudnn-conv.1 = f32[4] custom-call(%x)', '', 40, 50),
  ]
  lines = {'Steps': [('1', '', 0, 100)], 'XLA Ops': operations}
  assert microseconds(made_up(('/device:TPU:0', lines)), 100) == (
    # A loop has the time that its body does not take.
    {profile.HOST: 40, 'augmentation': 30, profile.OTHER: 20, 'conv2d_3x3': 10},
    60,
  )


def test_operations_of_a_cpu_are_among_other_events():
  threads = {
    'main': [('wait', '', 0, 100), ('tanh', 'tanh.3', 0, 30)],
    'pool': [('conv', 'cudnn-conv.1', 20, 60), ('other', 'of_another', 0, 90)],
  }
  assert microseconds(made_up(('/host:CPU', threads)), 100) == (
    {'conv2d_3x3': 40, profile.HOST: 40, profile.OTHER: 30},
    60,
  )


def test_times_are_per_run():
  data = made_up(('/host:CPU', {'main': [('tanh', 'tanh.3', 0, 30)]}))
  found = profile.summarize(data, PROGRAM, 60e-6, 3)
  assert found.total == pytest.approx(20e-6)
  assert found.busy == pytest.approx(10e-6)
  assert found.parts == pytest.approx({profile.OTHER: 1e-5, profile.HOST: 1e-5})


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
