"""The page of a report: one HTML file that needs no other."""

import base64
from collections.abc import Mapping, Sequence
from importlib import resources
from typing import NamedTuple

import numpy as np

from nfnets import errors
from nfnets.report import curves as curves_lib
from nfnets.report import figures, numbers

PICTURES = 24
"""Largest number of mistakes, and of hits, that are shown."""

_ENTRIES = 30  # of the confusion matrix that are listed
_OPEN_CLASSES = 50  # classes up to which their table is unfolded
_LOSSES = {
  'train/loss': 'training',
  'eval/loss': 'held out',
  'eval/ema_loss': 'held out, averaged weights',
}
_ACCURACIES = {
  'train/top1': 'training',
  'eval/top1': 'held out',
  'eval/ema_top1': 'held out, averaged weights',
}


class Picture(NamedTuple):
  """An example as the page shows it.

  Attributes:
    data: the image as a JPEG file; b'' if it cannot be read.
    is_small: whether to show its pixels as squares.
    id: identifies the example, such as its file.
  """

  data: bytes
  is_small: bool
  id: str

  @property
  def short_id(self) -> str:
    """The file and its folder."""
    return '/'.join(self.id.split('/')[-2:])

  @property
  def url(self) -> str:
    """The image as a URL that contains it; '' without one."""
    encoded = base64.b64encode(self.data).decode()
    return f'data:image/jpeg;base64,{encoded}' if encoded else ''


class Network(NamedTuple):
  """A set of weights and its numbers."""

  name: str
  summary: numbers.Summary


class Contents(NamedTuple):
  """What a page shows.

  Attributes:
    title: what was measured.
    step: the step of the run; None if the weights are from a file.
    facts: {what: text}, such as the data set.
    networks: the sets of weights; the page is about the last one.
    outcomes: the last one's predictions.
    class_names: one per class.
    pictures: {row of the outcomes: its picture}.
    curves: the metrics of the run; empty if there is none.
  """

  title: str
  step: int | None
  facts: Mapping[str, str]
  networks: Sequence[Network]
  outcomes: numbers.Outcomes
  class_names: Sequence[str]
  pictures: Mapping[int, Picture]
  curves: curves_lib.Curves


class _Shown(NamedTuple):
  """A picture with the classes and probabilities beside it."""

  picture: Picture
  true: str
  predicted: str
  confidence: float
  true_probability: float


class _Entry(NamedTuple):
  """An entry of the confusion matrix in the list."""

  true: str
  predicted: str
  images: int
  of: int


def step_tag(step: int) -> str:
  """Returns a part of every page about a step, by which it is recognized."""
  return f'<meta name="step" content="{step}">'


def mistakes(outcomes: numbers.Outcomes) -> np.ndarray:
  """Returns the rows of the mistakes that a page shows."""
  return numbers.confident_mistakes(outcomes, PICTURES)


def hits(outcomes: numbers.Outcomes) -> np.ndarray:
  """Returns the rows of the hits that a page shows."""
  return numbers.uncertain_hits(outcomes, PICTURES)


def render(contents: Contents) -> str:
  """Returns the page.

  Names of classes and files are untrusted: they are escaped, and made printable
  first.
  """
  # Takes a tenth of a second to import, which other evaluations do not need.
  import jinja2
  import markupsafe

  def printable(value: object) -> object:
    if isinstance(value, str) and not isinstance(value, markupsafe.Markup):
      return errors.printable(value)
    return value

  environment = jinja2.Environment(
    autoescape=True,
    finalize=printable,
    trim_blocks=True,
    lstrip_blocks=True,
    undefined=jinja2.StrictUndefined,
  )
  text = resources.files('nfnets.report').joinpath('page.html').read_text()
  outcomes, names = contents.outcomes, contents.class_names
  summary = contents.networks[-1].summary
  pairs = numbers.confusion(outcomes)
  counts = summary.classes.images.tolist()
  step = contents.step
  return environment.from_string(text).render(
    contents=contents,
    summary=summary,
    bars=figures.bars(summary.calibration),
    bins=numbers.BINS,
    matrix=figures.matrix(pairs, counts, names),
    entries=_entries(pairs, counts, names),
    classes=_class_rows(summary.classes, names),
    open_classes=len(names) <= _OPEN_CLASSES,
    mistakes=_shown(contents, mistakes(outcomes)),
    hits=_shown(contents, hits(outcomes)),
    charts=_charts(contents.curves),
    tag='' if step is None else markupsafe.Markup(step_tag(step)),
    width=figures.WIDTH,
    height=figures.HEIGHT,
  )


def _entries(
  pairs: numbers.Pairs, counts: Sequence[int], names: Sequence[str]
) -> list[_Entry]:
  """Returns the largest entries beside the diagonal."""
  wrong = np.flatnonzero(pairs.true != pairs.predicted)[:_ENTRIES]
  return [
    _Entry(names[true], names[predicted], count, counts[true])
    for true, predicted, count in zip(
      *(column[wrong].tolist() for column in pairs), strict=True
    )
  ]


def _class_rows(
  classes: numbers.Classes, names: Sequence[str]
) -> list[tuple[str, int, float, float, float]]:
  """Returns name, count, precision, recall and F1, the lowest F1 first.

  Classes without examples are last.
  """
  order = np.lexsort((np.arange(len(names)), classes.f1, classes.images == 0))
  columns = classes.images, classes.precision, classes.recall, classes.f1
  return [(names[i], *(column[i].item() for column in columns)) for i in order]


def _shown(contents: Contents, rows: np.ndarray) -> list[_Shown]:
  outcomes, names = contents.outcomes, contents.class_names
  return [
    _Shown(
      contents.pictures[row],
      names[outcomes.label[row]],
      names[outcomes.predicted[row]],
      float(outcomes.confidence[row]),
      float(np.exp(-outcomes.loss[row])),
    )
    for row in rows.tolist()
  ]


def _charts(curves: curves_lib.Curves) -> list[tuple[str, figures.Chart]]:
  """Returns the charts that have curves, with their titles."""
  charts = {
    title: figures.chart(
      {text: curves.get(name, []) for name, text in names.items()}
    )
    for title, names in (('Loss', _LOSSES), ('Accuracy', _ACCURACIES))
  }
  return [(title, chart) for title, chart in charts.items() if chart]
