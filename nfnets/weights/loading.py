"""Weights from any file that holds them, checked against a model."""

import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np

from nfnets import errors, models
from nfnets.models import config as model_config
from nfnets.weights import (
  agreement,
  class_names,
  metadata,
  sources,
  timm,
  tree,
)


class Loaded(NamedTuple):
  """A network, ready to use."""

  model: models.Model
  params: tree.Nested
  state: tree.Nested
  class_names: tuple[str, ...]  # one per class
  eval_preset: str  # how images are cut, see `data.crops.eval_crop`


def load(
  path: str | pathlib.Path,
  name: str,
  refit: bool = False,
  reset_head: bool = False,
  **overrides: Any,
) -> tuple[tree.Nested, tree.Nested]:
  """Reads the weights of a model; recognises the file by its content.

  Args:
    path: a published DeepMind file, a safetensors file of timm's or our own,
      or an id of the Hugging Face hub ('timm/dm_nfnet_f0.dm_in1k').
    name: of the model, as `create_model` takes it.
    refit: for timm's dm_nfnet files: change the gains so that the model's own
      standardization gives timm's filters, and with activation='gelu_erf'
      the logits are timm's. Without it the arrays are the file's, bit for
      bit. No change for models that standardize as timm does.
    reset_head: replace the classifier by a new one.
    **overrides: of `create_model`. Without any, a file of our own is taken
      with the settings written in it.

  Returns:
    (params, state), {module: {name: float32 array}} as `model.apply` takes
    them.

  Raises:
    UserError: the file cannot be read, is damaged or unsafe, or does not fit
      the model: the first few arrays by name, both shapes, and the model that
      the file fits.
  """
  source = sources.read(path, name)
  _check_name(source, name, overrides)
  options = _options(source, name, reset_head, overrides)
  model = models.create_model(name, **options)
  params, state = fit(source, model, reset_head)
  if refit:
    params = _refit(source, model.config, params)
  return tree.unflatten(params), tree.unflatten(state)


def load_for(
  path: str | pathlib.Path, model: models.Model, reset_head: bool = False
) -> tuple[tree.Nested, tree.Nested]:
  """Reads the weights of a model that is made already.

  Args:
    path: as `load` takes it.
    model: of `create_model`.
    reset_head: replace the classifier by a new one.

  Returns:
    (params, state) as `load` returns them.

  Raises:
    UserError: as `load`; or a file of our own says that the model it is of was
      made with other settings.
  """
  name = model.config.name
  source = sources.read(path, name)
  _check_name(source, name, tree.options(model.config))
  agreement.check_config(source, model.config)
  params, state = fit(source, model, reset_head)
  return tree.unflatten(params), tree.unflatten(state)


def load_model(
  path: str | pathlib.Path,
  name: str | None = None,
  refit: bool = False,
  **overrides: Any,
) -> Loaded:
  """Reads a network with everything that its file tells.

  Args:
    path: as `load` takes it.
    name: of the model; None asks the file, by what is written in it or by the
      number of its arrays and parameters.
    refit: as `load` takes it; the model's GELU is timm's then, too.
    **overrides: of `create_model`.

  Returns:
    The model with its weights and the names of its classes. The classifier
    has as many classes as the file's.

  Raises:
    UserError: as `load`; or the file does not tell which model it fits.
  """
  source = sources.read(path, name)
  name = name or source.name or _guess_name(source)
  _check_name(source, name, overrides)
  overrides.setdefault('num_classes', tree.num_classes(source.params))
  options = _options(source, name, False, overrides)
  model = models.create_model(name, **options)
  if refit and model.config.activation == 'gelu':
    options['activation'] = 'gelu_erf'
    model = models.create_model(name, **options)
  params, state = fit(source, model, False)
  if refit:
    params = _refit(source, model.config, params)
  return Loaded(
    model,
    tree.unflatten(params),
    tree.unflatten(state),
    class_names.of(model.config.num_classes, source.class_names),
    source.eval_preset or metadata.published_preset(model.config),
  )


def _check_name(
  source: sources.Source, name: str, overrides: dict[str, Any]
) -> None:
  """Raises if the file says that it is of another model."""
  if source.name in (None, name):
    return
  # Shapes say more than the name, where they differ.
  model = models.create_model(name, **overrides)
  if source.layout == 'nfnets':
    tree.check(
      source.params,
      tree.expected(model.config).params,
      source.path,
      name,
      source.layout,
      source.name,
    )
  raise errors.UserError(
    f'{source.path}: holds {source.name}, not {name}; ask for {source.name}'
  )


def _options(
  source: sources.Source, name: str, reset_head: bool, overrides: dict[str, Any]
) -> dict[str, Any]:
  """The options of create_model that the file and the caller agree on."""
  written = dict(source.options)
  if reset_head:
    written.pop('num_classes', None)
  options = {**written, **overrides}
  if written and overrides:
    agreement.check_options(source, name, written, options)
  return options


def fit(
  source: sources.Source, model: models.Model, reset_head: bool
) -> tuple[tree.Flat, tree.Flat]:
  """The file's arrays by our names, if they are exactly the model's.

  Args:
    source: what was read.
    model: to compare with.
    reset_head: whether a new classifier takes the place of the file's.

  Returns:
    Parameters and state, flat, C-contiguous and float32.

  Raises:
    UserError: they differ, see `tree.check`.
  """
  name = model.config.name
  wanted = tree.expected(model.config)
  params = dict(source.params)
  targets = dict(wanted.params)
  if source.layout == 'timm':
    targets = {
      theirs: jax.ShapeDtypeStruct(
        layout.timm_shape(wanted.params[path].shape), np.float32
      )
      for path, (theirs, layout) in timm.layouts(
        wanted.params, model.config
      ).items()
    }
  if reset_head:
    params = {k: v for k, v in params.items() if not tree.is_head(k)}
    targets = {k: v for k, v in targets.items() if not tree.is_head(k)}
  tree.check(params, targets, source.path, name, source.layout)
  tree.check(source.state, wanted.state, source.path, name, source.layout)
  if source.layout == 'timm':
    params = timm.from_timm(params, wanted.params, model.config)
  if reset_head:
    params |= _new_head(model, wanted.params)
  return _as_wanted(params, wanted.params), _as_wanted(
    source.state, wanted.state
  )


def _as_wanted(flat: tree.Flat, wanted: tree.Flat) -> tree.Flat:
  """C-contiguous arrays of the model's types (float32)."""
  return {
    path: np.asarray(flat[path], wanted[path].dtype, order='C')
    for path in wanted
  }


def _new_head(model: models.Model, wanted: tree.Flat) -> tree.Flat:
  """A classifier as `model.init` makes it, without making the rest."""
  rng = np.random.default_rng(0)
  head = {}
  for path in wanted:
    if tree.is_head(path):
      shape = wanted[path].shape
      spread = model.config.head_init if len(shape) > 1 else 0.0
      head[path] = spread * rng.standard_normal(shape, np.float32)
  return head


def _refit(
  source: sources.Source, config: model_config.ModelConfig, params: tree.Flat
) -> tree.Flat:
  if source.layout != 'timm':
    raise errors.UserError(
      f'{source.path}: refit=True is for files of timm; this one is of '
      f'layout {source.layout}'
    )
  if config.ws_epsilon == 'additive':
    return params
  return timm.refit_from_timm(params)


def _guess_name(source: sources.Source) -> str:
  found = tree.find_models(source.params, source.layout)
  if len(found) == 1:
    return found[0]
  among = f'it may be {" or ".join(found)}' if found else 'it fits none'
  raise errors.UserError(
    f'{source.path}: does not tell which model it is of ({among}); name one '
    'of python -m nfnets.models'
  )
