"""Any file of weights, read as it is."""

import pathlib
from typing import Any, NamedTuple

from nfnets import errors
from nfnets.weights import (
  deepmind,
  files,
  hub,
  metadata,
  timm_names,
  tree,
)


class Source(NamedTuple):
  """What a file holds, before it is compared with a model."""

  path: str  # as the user gave it, for messages
  layout: str  # 'nfnets', 'deepmind' or 'timm'
  params: tree.Flat  # by the names of the layout
  state: tree.Flat
  name: str | None  # of the model, where the file or the id tells it
  options: dict[str, Any] = {}  # of create_model, where the file tells them
  class_names: tuple[str, ...] = ()
  eval_preset: str | None = None


def read(path: str | pathlib.Path, name: str | None = None) -> Source:
  """Reads a file of any layout as it is.

  Args:
    path: as `loading.load` takes it.
    name: of the model, to compare the published md5 of a DeepMind file.

  Returns:
    The arrays and what else the file tells.

  Raises:
    UserError: the file cannot be read, is damaged or unsafe.
  """
  told, shown = None, str(path)
  if not pathlib.Path(path).exists() and hub.model_name(shown):
    told = timm_names.our_name(hub.model_name(shown) or '')
    path = hub.fetch(shown)
  file = pathlib.Path(path)
  kind = files.kind(file)
  if kind == 'directory':
    raise errors.UserError(
      f'{path}: a directory; python -m nfnets.convert {path} FILE --to=nfnets '
      'exports the checkpoint of a training run'
    )
  if kind == 'pickle':
    trees = deepmind.read(file, name)
    return Source(shown, 'deepmind', *trees, told)
  contents = files.read_safetensors(file)
  if not metadata.is_ours(contents.metadata):
    return Source(shown, 'timm', contents.tensors, {}, told)
  header = metadata.parse(contents, shown)
  parts = metadata.split(contents.tensors)
  return Source(
    shown,
    'nfnets',
    *parts,
    header.name,
    header.options,
    header.class_names,
    header.eval_preset,
  )
