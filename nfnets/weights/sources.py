"""Reads a weights file in any layout, without comparing it to a model."""

import os
import pathlib
from typing import Literal, NamedTuple

from nfnets import errors
from nfnets import files as files_lib
from nfnets.models import catalogue
from nfnets.weights import deepmind, files, hub, metadata, snapshots, timm, tree

FileLayout = Literal['nfnets', 'deepmind', 'timm']


class Source(NamedTuple):
  """The contents of a weights file."""

  path: str  # as the user gave it, for messages
  layout: FileLayout
  params: tree.Flat  # by the layout's names
  state: tree.Flat
  name: str | None  # the model, if the file or the hub id specifies it
  options: tree.Options = {}  # empty if the file stores none
  class_names: tuple[str, ...] = ()
  images: dict[str, int] = {}  # see `metadata.make`
  eval_preset: str | None = None


def read(path: str | pathlib.Path, name: str | None = None) -> Source:
  """Reads a file in any layout.

  Args:
    path: a file or hub id, see `loading.load`.
    name: the model's name. If DeepMind published its file, a file without a
      digest of our own is compared with the published MD5.

  Returns:
    The arrays and everything else that the file stores.

  Raises:
    UserError: the file cannot be read, is damaged or unsafe.
  """
  hub_model, shown = None, str(path)
  file = files_lib.user_path(path, 'weights')
  if not os.path.exists(file) and (theirs := hub.model_name(shown)):
    hub_model = catalogue.our_name(theirs)
    file = hub.fetch(shown)
  kind = files.kind(file)
  if kind == 'directory':
    return _read_snapshot(file, shown)
  if kind == 'pickle':
    trees = deepmind.read(file, name)
    return Source(shown, 'deepmind', *trees, hub_model)
  contents = files.read_safetensors(file)
  if not metadata.is_ours(contents.metadata):
    tensors = timm.without_prefixes(contents.tensors)
    return Source(shown, 'timm', tensors, {}, hub_model)
  header = metadata.parse(contents, shown)
  parts = metadata.split(contents.tensors)
  return Source(
    shown,
    'nfnets',
    *parts,
    header.name,
    header.options,
    header.class_names,
    header.images,
    header.eval_preset,
  )


def _read_snapshot(folder: pathlib.Path, shown: str) -> Source:
  """Reads the weights in a folder as on the Hugging Face hub."""
  snapshot = snapshots.read(folder)
  if snapshot is None:
    raise errors.UserError(
      f'{shown}: is a folder without {snapshots.WEIGHTS}; to export the'
      ' checkpoint of a training run, run python -m nfnets.convert'
      f' {shown} FILE --to=nfnets'
    )
  source = read(snapshot.weights)
  name = catalogue.our_name(snapshot.architecture or '')
  return source._replace(
    path=shown,
    name=source.name or name,
    class_names=source.class_names or snapshot.class_names,
  )
