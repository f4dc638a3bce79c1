"""The tables and the figure of the study of adaptive gradient clipping."""

import math
import pathlib
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from nfnets.studies import results, summary

if TYPE_CHECKING:
  from matplotlib import axes as axes_lib

BATCH_NORM, NONE = 'batch norm', 'no clipping'
GLOBAL_NORM, AGC = 'global norm', 'AGC'
METHODS = (BATCH_NORM, NONE, GLOBAL_NORM, AGC)
KINDS = ('stem', '1x1', '3x3', 'gains', 'skip gains', 'biases', 'attention')
"""The kinds of layers, in the order in which they are drawn."""
# What a method chooses by accuracy.
_CHOICES = ('rate', 'lambda', 'norm')


def describe(found: Sequence[results.Result]) -> str:
  """Formats the best accuracy by batch size, then all results.

  Args:
    found: the results.
  """
  batches = _values(found, 'batch')
  best = []
  for method in METHODS:
    cells = []
    for batch in batches:
      group = choose(results.select(found, method=method, batch=batch))
      cells.append(
        f'{summary.percent(summary.estimate(group, "top1"))}{_chosen(group)}'
      )
    best.append((method, *cells))
  header = ('best settings', *(f'batch {batch:g}' for batch in batches))
  return '\n\n'.join([summary.table(header, best), _all(found)])


def choose(found: Sequence[results.Result]) -> list[results.Result]:
  """Returns the seeds of the settings with the highest mean accuracy.

  Args:
    found: the results of one method at one batch size.

  Returns:
    Those of the settings with the fewest diverged seeds and, among these, the
    highest mean; [] without results.
  """

  def score(group: Sequence[results.Result]) -> tuple[int, float]:
    value = summary.estimate(group, 'top1')
    return -value.diverged, -math.inf if not value.runs else value.mean

  return max(_groups(found), key=score, default=[])


def _groups(
  found: Iterable[results.Result],
) -> list[list[results.Result]]:
  """Groups results that differ only in their seed."""
  groups: dict[tuple[object, ...], list[results.Result]] = {}
  for result in found:
    labels = result.labels
    key = tuple((k, x) for k, x in labels.items() if k != 'seed')
    groups.setdefault(key, []).append(result)
  return list(groups.values())


def _chosen(group: Sequence[results.Result]) -> str:
  """Describes the settings of a group: ' (rate 0.1, lambda 0.02)'."""
  labels = group[0].labels if group else {}
  shown = [f'{k} {labels[k]:g}' for k in _CHOICES if k in labels]
  return f' ({", ".join(shown)})' if shown else ''


def _all(found: Sequence[results.Result]) -> str:
  """Formats all results, with the fractions of clipped units."""
  rows = []
  for group in _groups(found):
    labels = group[0].labels
    clipped = [
      summary.percent(summary.estimate(group, name))
      for name in ('clipped', *(f'clipped/{kind}' for kind in _layers(found)))
    ]
    accuracy = summary.percent(summary.estimate(group, 'top1'))
    keys = ('method', 'batch', 'rate', 'lambda', 'norm')
    cells = (str(labels.get(key, '')) for key in keys)
    rows.append((*cells, accuracy, *clipped))
  header = ('method', 'batch', 'rate', 'lambda', 'norm', 'accuracy', 'clipped')
  return summary.table((*header, *_layers(found)), rows)


def draw(found: Sequence[results.Result], path: pathlib.Path) -> None:
  """Draws accuracy by batch size and by lambda, and what AGC clips.

  Args:
    found: the results.
    path: the PNG.
  """
  from nfnets.studies import figure

  panels = [
    lambda axes: _draw_methods(axes, found),
    lambda axes: _draw_lambdas(axes, found),
    lambda axes: _draw_clipped(axes, found),
  ]
  seeds = len(_values(found, 'seed'))
  caption = (
    f'Up to {seeds} seed(s); bars: {summary.INTERVAL}. A cross: a seed ended in'
    ' numbers that are not finite. Left: each method with its best settings.'
  )
  figure.save(path, panels, caption)


def _draw_methods(
  axes: 'axes_lib.Axes', found: Sequence[results.Result]
) -> None:
  from nfnets.studies import figure

  batches = _values(found, 'batch')
  curves = []
  for method in METHODS:
    groups = [
      choose(results.select(found, method=method, batch=batch))
      for batch in batches
    ]
    ys = [summary.estimate(group, 'top1') for group in groups]
    curves.append(figure.Curve(method, batches, ys))
  figure.use_log_axis(axes, batches)
  figure.draw_curves(axes, curves)
  axes.set_xlabel('batch size')
  axes.set_ylabel('held-out accuracy (%)')


def _draw_lambdas(
  axes: 'axes_lib.Axes', found: Sequence[results.Result]
) -> None:
  from nfnets.studies import figure

  found = results.select(found, method=AGC)
  if not found:
    return
  # The reference rate has all lambdas, and comes first.
  rate = found[0].labels['rate']
  lambdas = _values(found, 'lambda')
  curves = []
  for batch in _values(found, 'batch'):
    at = results.select(found, batch=batch, rate=rate)
    groups = [results.select(at, **{'lambda': x}) for x in lambdas]
    ys = [summary.estimate(group, 'top1') for group in groups]
    curves.append(figure.Curve(f'batch {batch:g}', lambdas, ys))
  figure.use_log_axis(axes, lambdas)
  figure.draw_curves(axes, curves)
  axes.set_xlabel(f'lambda of AGC, at rate {rate:g}')
  axes.set_ylabel('held-out accuracy (%)')


def _draw_clipped(
  axes: 'axes_lib.Axes', found: Sequence[results.Result]
) -> None:
  """Draws the fractions at one batch size, by the kind of layer."""
  from nfnets.studies import figure

  found = [x for x in found if str(x.labels['method']).startswith(AGC)]
  layers = _layers(found)
  if not layers:
    return
  batches = _values(found, 'batch')
  batch = batches[min(1, len(batches) - 1)]
  rates = _values(results.select(found, method=AGC), 'rate')
  reference = found[0].labels['rate'] if rates else None
  groups = [
    group
    for group in _groups(results.select(found, batch=batch))
    if group[0].labels.get('rate', reference) == reference
  ]
  curves = []
  for index, group in enumerate(groups):
    labels = group[0].labels
    # Side by side, so that none hides another.
    offset = (index - (len(groups) - 1) / 2) * 0.7 / len(groups)
    curves.append(
      figure.Curve(
        f'{labels["method"]}, lambda {labels["lambda"]:g}',
        [x + offset for x in range(len(layers))],
        [summary.estimate(group, f'clipped/{x}') for x in layers],
      )
    )
  figure.draw_curves(axes, curves, joined=False)
  # Above the panel: there are points everywhere inside.
  axes.legend(fontsize=7, loc='lower center', bbox_to_anchor=(0.5, 1), ncols=2)
  axes.set_xticks(range(len(layers)), layers, rotation=20, fontsize=7)
  axes.set_xlabel(f'batch size {batch:g}, middle of the run')
  axes.set_ylabel('units clipped (%)')


def _layers(found: Iterable[results.Result]) -> list[str]:
  """Returns the kinds of layers whose clipping was measured, in order."""
  names = dict.fromkeys(
    name.removeprefix('clipped/')
    for x in found
    for name in x.numbers
    if name.startswith('clipped/')
  )
  return [kind for kind in KINDS if kind in names]


def _values(found: Iterable[results.Result], label: str) -> list[float]:
  """Returns the different values of a label, in ascending order."""
  return sorted({float(x.labels[label]) for x in found if label in x.labels})
