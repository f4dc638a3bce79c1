"""Reports on a network: a page, and its numbers as CSV."""

import logging
import pathlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import ml_collections
import numpy as np

from nfnets import files, models
from nfnets.data import crops, images, unreadable
from nfnets.data import source as source_lib
from nfnets.experiment import inputs
from nfnets.experiment import steps as steps_lib
from nfnets.report import curves, numbers, page, tables
from nfnets.training import devices, loop, reporting
from nfnets.training import evaluate as evaluate_lib
from nfnets.training import workdir as workdir_lib
from nfnets.weights import class_names

_log = logging.getLogger(__name__)

PAGE = 'report.html'
"""The page's name in its folder."""
TABLES = 'report'
"""The name of the folder with the tables."""

_THUMBNAIL = 160  # pixels; larger pictures are reduced to about this
_SMALL = 100  # pixels; smaller pictures show their pixels
_QUALITY = 90  # of JPEG files


class Subject(NamedTuple):
  """What a report is about.

  Attributes:
    config: the settings.
    model: the network.
    source: the split that it was evaluated on.
    class_names: one per class.
    networks: {name: predictions} of one or more sets of weights; the report is
      about the last one.
    run: the folder of the run, for its learning curves; None if the weights are
      from a file.
    step: the step of the run.
  """

  config: ml_collections.ConfigDict
  model: models.Model
  source: source_lib.Source
  class_names: Sequence[str]
  networks: Mapping[str, numbers.Outcomes]
  run: pathlib.Path | None = None
  step: int | None = None


def after_training(
  steps: steps_lib.Steps,
  source: source_lib.Source,
  evaluation: evaluate_lib.Evaluation,
  outcome: loop.Outcome,
  reporter: reporting.Reporter,
  workdir: pathlib.Path,
) -> None:
  """Writes the report of a finished run to its workdir and prints its path.

  If the run had finished before, it is evaluated again only if its report is
  missing.

  Args:
    steps: the programs.
    source: the held-out split.
    evaluation: what the training loop evaluated with.
    outcome: how training ended.
    reporter: where to print.
    workdir: the run's folder.
  """
  if outcome.exit_status:
    return
  step, page_path = outcome.step, workdir / PAGE
  if evaluation.outcomes is None:
    if devices.of_primary(_is_about(page_path, step)):
      reporter.message(f'report:      {page_path}')
      return
    evaluation(outcome.state, lambda: False)
  if not devices.is_primary():
    return
  found = evaluation.outcomes or {}
  networks = {run_name(prefix, step): x for prefix, x in found.items()}
  names = class_names.resolve(source.num_classes, tuple(source.class_names))
  subject = Subject(
    steps.config, steps.model, source, names, networks, workdir, step
  )
  if write(subject, workdir):
    reporter.message(f'report:      {page_path}')


def run_name(prefix: str, step: int) -> str:
  """Returns the name of the weights of a run.

  Args:
    prefix: '', or 'ema_' for the averaged weights.
    step: the step.
  """
  return f'{"averaged " if prefix else ""}weights of step {step}'


def _is_about(path: pathlib.Path, step: int) -> bool:
  """Returns whether a page is the report of a step."""
  try:
    return page.step_tag(step) in path.read_text(encoding='utf-8')
  except (OSError, ValueError):
    return False


def write(subject: Subject, folder: pathlib.Path) -> pathlib.Path | None:
  """Writes a page and tables; warns if that fails.

  Args:
    subject: what they are about.
    folder: where to write them; created if missing.

  Returns:
    The page, None if it cannot be written.
  """
  texts = _texts(subject)
  try:
    (folder / TABLES).mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
      with files.replacing(folder / name) as temporary:
        temporary.write_text(text, encoding='utf-8')
  except OSError as error:
    _log.warning(
      'the report %s cannot be written: %s', folder / PAGE, error.strerror
    )
    return None
  return folder / PAGE


def _texts(subject: Subject) -> dict[str, str]:
  """Returns the contents of the files by their names, the page last."""
  names = subject.class_names
  networks = [
    page.Network(name, numbers.summarize(outcomes, len(names)))
    for name, outcomes in subject.networks.items()
  ]
  outcomes = list(subject.networks.values())[-1]
  rows = {*page.mistakes(outcomes).tolist(), *page.hits(outcomes).tolist()}
  contents = page.Contents(
    f'{subject.model.config.name} on {subject.source.name}',
    subject.step,
    _facts(subject, networks),
    networks,
    outcomes,
    names,
    {row: _picture(subject, int(outcomes.position[row])) for row in rows},
    curves.read(subject.run / workdir_lib.METRICS, subject.step)
    if subject.run
    else {},
  )
  summary = networks[-1].summary
  pairs = numbers.confusion(outcomes)
  return {
    f'{TABLES}/per_class.csv': tables.per_class(summary, names),
    f'{TABLES}/confusion.csv': tables.confusion(pairs, names),
    f'{TABLES}/calibration.csv': tables.calibration(summary),
    PAGE: page.render(contents),
  }


def _facts(
  subject: Subject, networks: Sequence[page.Network]
) -> dict[str, str]:
  summary = networks[-1].summary
  size = inputs.eval_size(subject.config, subject.model)
  return {
    'weights': networks[-1].name,
    'data': f'{summary.images:,} images of {subject.source.name}'
    f' ({subject.source.split}), {len(subject.class_names):,} classes',
    'images': f'{size} x {size} pixels, {subject.config.data.eval_preset}',
  }


def _picture(subject: Subject, index: int) -> page.Picture:
  """Decodes an example as the network sees it, and reduces it."""
  config, crop = subject.config.data, subject.model.config
  size = inputs.eval_size(subject.config, subject.model)
  out = np.zeros((size, size, 3), np.uint8)
  try:
    example = subject.source[index]
    with unreadable.identified(example['id']):
      crops.eval_crop(
        example['image'],
        out,
        config.eval_preset,
        crop.crop_pct,
        crop.crop_mode,
        config.max_pixels,
      )
  except source_lib.UnreadableError as error:  # Since it was evaluated.
    return page.Picture(b'', False, error.id)
  times = max(1, size // _THUMBNAIL)
  side = size // times
  blocks = out[: side * times, : side * times].reshape(
    side, times, side, times, 3
  )
  reduced = np.rint(blocks.mean(axis=(1, 3))).astype(np.uint8)
  data = images.encode_jpeg(reduced, _QUALITY)
  return page.Picture(data, size < _SMALL, example['id'])
