"""Saves weights in any layout that `load` reads."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np

from nfnets import errors, models
from nfnets import files as files_lib
from nfnets.models import registry
from nfnets.weights import deepmind, files, metadata, timm, tree


def save(
  path: str | pathlib.Path,
  params: registry.Params,
  state: registry.State,
  name: str,
  layout: str = 'nfnets',
  *,
  class_names: Sequence[str] = (),
  images: Mapping[str, int] | None = None,
  eval_preset: str | None = None,
  refit: bool = False,
  **overrides: Any,
) -> None:
  """Saves weights; an existing file is replaced atomically.

  Args:
    path: the file to write; `~` and `$VARIABLES` are expanded.
    params: {module: {name: array}}, without a device axis.
    state: {module: {name: array}}, empty except for networks with batch
      normalization.
    name: the model's name.
    layout: 'nfnets' writes safetensors that also store the model, its options
      and its class names; 'deepmind' writes a pickle in the format of the
      published files; 'timm' writes safetensors of a state dict that timm
      loads with strict=True.
    class_names: one name per class; stored by layout 'nfnets' only.
    images: the numbers of images that the network was trained and evaluated
      on, by 'train' and 'eval'; stored by layout 'nfnets' only.
    eval_preset: the preset of `data.crops.eval_crop` for test images; None
      selects the preset of the model's authors. Stored by layout 'nfnets' only.
    refit: for layout 'timm' and networks standardized as the published ones:
      whether to change the gains so that timm computes the same filters (its
      dm_nfnet adds 1e-5 to the variance). timm's GELU still differs: it uses
      erf where ours uses tanh.
    **overrides: the options that the model was created with. If `num_classes`
      does not match the classifier, the classifier is saved as it is, and
      loading it requires its `num_classes`.

  Raises:
    UserError: the arrays do not fit the model, the number of class names is not
      that of the classes, timm lacks the network, or the file cannot be
      written.
  """
  path = files_lib.user_path(path, 'path')
  model = models.create_model(name, **overrides)
  flat = _on_host(params)
  _check_fit(flat, model, str(path))
  _check_names(class_names, flat)
  flat_state = _on_host(state)
  tree.check(
    flat_state, tree.expected(model.config).state, 'state', name, 'deepmind'
  )
  if layout == 'nfnets':
    files.write_safetensors(
      path,
      metadata.join(flat, flat_state),
      metadata.make(model.config, class_names, eval_preset, images),
    )
  elif layout == 'deepmind':
    deepmind.write(path, tree.unflatten(flat), tree.unflatten(flat_state))
  elif layout == 'timm':
    if refit and model.config.ws_epsilon == 'floor':
      flat = timm.refit_to_timm(flat)
    tensors = timm.to_timm(flat, model.config)
    files.write_safetensors(path, tensors, {'format': 'pt'})
  else:
    raise errors.UserError(
      f"layout is {layout!r}, expected 'nfnets', 'deepmind' or 'timm'"
    )


def _on_host(nested: registry.Params | registry.State) -> tree.Flat:
  return {
    path: np.asarray(jax.device_get(array))
    for path, array in tree.flatten(nested).items()
  }


def _check_fit(flat: tree.Flat, model: models.Model, path: str) -> None:
  """Raises an error unless all arrays but the classifier's fit the model."""
  wanted = tree.expected(model.config).params
  body = {k: v for k, v in flat.items() if not tree.is_head(k)}
  tree.check(
    body,
    {k: v for k, v in wanted.items() if not tree.is_head(k)},
    f'parameters for {path}',
    model.config.name,
    'nfnets',
  )


def _check_names(class_names: Sequence[str], flat: tree.Flat) -> None:
  """Raises an error unless there is a name for every class, or none at all."""
  classes = [
    array.shape[-1] for path, array in flat.items() if tree.is_head(path)
  ]
  if class_names and classes[:1] != [len(class_names)]:
    raise errors.UserError(
      f'{len(class_names)} class names for a classifier of'
      f' {classes[0] if classes else 0} classes'
    )
