"""The study of the architecture: its networks, table and figure."""

import pytest

from nfnets.experiment import build, checks
from nfnets.models import scaling
from nfnets.studies import architecture, trials
from tests.studies import made


def configs(*arguments):
  options = made.make_options(architecture, *arguments)
  return [checks.from_changes(x.settings) for x in architecture.plan(options)]


def test_the_last_network_is_a_narrow_nfnet():
  *_, last = configs('--seeds=1')
  model = build.make_model(last, 10).config
  last.unlock()
  for name in ('depth', 'widths', 'bottleneck_ratio', 'extra_conv'):
    last.model[name] = None
  last.model.depth = (1, 2, 6, 3)
  assert build.make_model(last, 10).config == model


def test_the_first_network_is_a_narrow_resnext():
  first, *_ = configs('--seeds=1')
  model = build.make_model(first, 10).config
  stages = scaling.plan_blocks(model)
  assert [len(stage) for stage in stages] == [3, 4, 6, 3]
  assert [stage[0].out_channels for stage in stages] == [32, 64, 128, 256]
  assert [stage[0].bottleneck for stage in stages] == [8, 16, 32, 64]
  assert not model.extra_conv and model.se_ratio == 0.5


def test_each_row_adds_one_change():
  rows = [dict(config.model) for config in configs('--seeds=1')]
  differing = [
    {k for k in before if before[k] != after[k]}
    for before, after in zip(rows, rows[1:], strict=False)
  ]
  assert differing == [
    {'depth'},
    {'widths'},
    {'bottleneck_ratio'},
    {'extra_conv'},
  ]


def test_table_and_figure(tmp_path):
  found = [
    made.result({'network': '+ width pattern', 'seed': i}, top1, step_time=time)
    for i, (top1, time) in enumerate([(0.5, 0.1), (0.5, 0.2), (0.5, 0.3)])
  ]
  found.append(
    made.result({'network': 'SE-ResNeXt-D', 'seed': 0}, diverged=True)
  )
  rows = architecture.describe(found).splitlines()[2:]
  cells = [[x.strip() for x in row.split('|')[1:-1]] for row in rows]
  assert cells == [
    ['SE-ResNeXt-D', 'diverged', '-'],
    ['+ width pattern', '50.0 ± 0.0%', '200 ms'],
  ]
  architecture.draw(found, tmp_path)
  assert (tmp_path / 'architecture.png').exists()


@pytest.mark.slow
@pytest.mark.parametrize('row', [0, -1])
def test_networks_train(tmp_path, row):
  options = made.make_options(architecture, '--quick', '--steps=3')
  run = architecture.plan(options)[row]
  assert trials.train(run, tmp_path, None)['step'] == 3
