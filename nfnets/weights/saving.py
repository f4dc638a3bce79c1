"""Weights to files, in any of the layouts that `load` reads."""

import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np

from nfnets import errors, models
from nfnets.weights import deepmind, files, metadata, timm, tree


def save(
  path: str | pathlib.Path,
  params: tree.Nested,
  state: tree.Nested,
  name: str,
  layout: str = 'nfnets',
  *,
  class_names: Sequence[str] = (),
  eval_preset: str | None = None,
  refit: bool = False,
  **overrides: Any,
) -> None:
  """Writes weights; a file at `path` is replaced in one step.

  Args:
    path: where to.
    params: {module: {name: array}}, of one device.
    state: the same; empty but for networks with batch normalization.
    name: of the model.
    layout: 'nfnets', safetensors that tell the model, its settings and its
      classes; 'deepmind', a pickle as the published files are; 'timm',
      safetensors of a state dict that timm loads with strict=True.
    class_names: one per class; kept by layout 'nfnets' only.
    eval_preset: how images were cut when the network was evaluated (see
      `data.crops.eval_crop`), None for the way of the model's authors; kept by
      layout 'nfnets' only.
    refit: for layout 'timm' and networks of the published standardization:
      change the gains so that timm computes the same filters (its dm_nfnet
      adds 1e-5 to the variance). GELU stays timm's: erf where ours is tanh.
    **overrides: of `create_model`, as the network was made. A classifier of
      another size than these say is kept; to load it, num_classes is asked.

  Raises:
    UserError: the arrays are not the model's, timm has no such network, or
      the file cannot be written.
  """
  path = pathlib.Path(path)
  model = models.create_model(name, **overrides)
  flat = _on_host(params)
  _check_fit(flat, model, str(path))
  flat_state = _on_host(state)
  tree.check(
    flat_state, tree.expected(model.config).state, 'state', name, 'deepmind'
  )
  if layout == 'nfnets':
    files.write_safetensors(
      path,
      metadata.join(flat, flat_state),
      metadata.make(model.config, class_names, eval_preset),
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


def _on_host(nested: tree.Nested) -> tree.Flat:
  return {
    path: np.asarray(jax.device_get(array))
    for path, array in tree.flatten(nested).items()
  }


def _check_fit(flat: tree.Flat, model: models.Model, path: str) -> None:
  """Raises unless the parameters, the classifier aside, are the model's."""
  wanted = tree.expected(model.config).params
  body = {k: v for k, v in flat.items() if not tree.is_head(k)}
  tree.check(
    body,
    {k: v for k, v in wanted.items() if not tree.is_head(k)},
    f'parameters for {path}',
    model.config.name,
    'nfnets',
  )
