"""The study of signal propagation: its runs, measurements and figure."""

import jax
import numpy as np
import pytest

from nfnets import errors, models
from nfnets.studies import results, signal_propagation, signals
from tests.studies import made


def example():
  numbers = {}
  for block in range(3):
    numbers |= {
      f'square_mean_{block}': 0.01 + block,
      f'variance_{block}': 1.0 + block,
      f'residual_{block}': 1.0 + block,
      f'analytic_{block}': 1.1 + block,
      f'expected_{block}': 1.2 + block,
      f'analytic_residual_{block}': 0.9 + block,
    }
  return [
    results.Result(
      {'model': 'm', 'images': 'x', 'seed': s}, numbers, False, 1, {}
    )
    for s in range(2)
  ]


def test_runs():
  options = made.make_options(
    signal_propagation, '--models', 'a', 'a:plain', '--size=64', '--images=2'
  )
  runs = signal_propagation.plan(options)
  assert [run.labels['model'] for run in runs] == ['a', 'a:plain']
  for run in runs:
    assert run.settings['model.name'] == 'a'
    assert run.settings['dataset'] == 'gaussian'
    assert run.settings['data.image_size'] == 64
    assert run.settings['train.batch_size'] == 2
  default = signal_propagation.plan(made.make_options(signal_propagation))
  assert len(default) == len(signal_propagation.MODELS)


def test_table_and_figure(tmp_path):
  rows = signal_propagation.describe(example()).splitlines()
  assert len(rows) == 2 + 3
  cells = [x.strip() for x in rows[-1].split('|')[1:-1]]
  assert cells == ['m', '2', '2.01', '3', '3.1', '3.2', '3', '2.9']
  signal_propagation.draw(example(), tmp_path)
  assert (tmp_path / 'signal_propagation.png').stat().st_size < 150_000


def test_a_missing_number_is_a_gap(tmp_path):
  found = example()
  del found[0].numbers['analytic_1']
  signal_propagation.describe(found)
  signal_propagation.draw(found, tmp_path)
  assert (tmp_path / 'signal_propagation.png').exists()


@pytest.mark.parametrize(
  'activation, second_moment', [('relu', 0.5), ('identity', 1)]
)
def test_plain_filters_follow_hes_rule(activation, second_moment):
  model = models.create_model(
    'nf_resnet50',
    10,
    depth=(1,) * 4,
    width=1.0,
    stem='small',
    activation=activation,
  )
  params, _ = jax.jit(model.init)(
    jax.random.key(0), np.zeros((1, 32, 32, 3), np.float32)
  )
  plain, changed = signals.without_standardization(model, params)
  assert plain.config.folded
  module = 'NF_ResNet/~/nf_res_block_1/~/conv1'
  weight = changed[module]['w']
  fan_in = np.prod(weight.shape[:3])
  assert np.var(weight) * fan_in == pytest.approx(1 / second_moment, rel=0.05)
  first = changed['NF_ResNet/~/initial_conv']['w']
  np.testing.assert_array_equal(first, params['NF_ResNet/~/initial_conv']['w'])


def measure(*arguments):
  options = made.make_options(signal_propagation, *arguments)
  (run,) = signal_propagation.plan(options)
  small = {'model.depth': (1, 2, 1, 1), 'model.width': 0.5}
  return signals.measure(
    run._replace(settings={**run.settings, **small}), None, None
  )


def test_plain_filters_need_standardized_ones():
  with pytest.raises(errors.UserError, match='write resnet50'):
    measure('--models', 'resnet50:plain', '--size=64', '--images=4')


@pytest.mark.slow
def test_batch_norm_has_no_analytic_variance():
  numbers = measure('--models', 'resnet50', '--size=64', '--images=4')
  assert set(numbers) == {
    f'{name}_{block}'
    for name in ('square_mean', 'variance', 'residual')
    for block in range(5)
  }
  # Within a stage, the variances of the branches add up (section 3).
  added = numbers['variance_1'] + numbers['residual_2']
  assert numbers['variance_2'] == pytest.approx(added, rel=0.1)


@pytest.mark.slow
def test_plain_filters_shift_the_mean():
  arguments = ('--size=64', '--images=4')
  scaled = measure('--models', 'nf_resnet50', *arguments)
  plain = measure('--models', 'nf_resnet50:plain', *arguments)
  assert plain['square_mean_4'] > 10 * scaled['square_mean_4']
  assert 'analytic_0' in scaled and 'analytic_0' not in plain


@pytest.mark.slow
def test_real_images():
  arguments = ('--size=64', '--images=4', '--dataset=digits')
  numbers = measure('--models', 'nf_resnet50', *arguments)
  assert all(np.isfinite(x) for x in numbers.values())
