"""Loads weights files and checks that they fit the model."""

import pathlib
from typing import Any, NamedTuple

import jax
import numpy as np

from nfnets import errors, models
from nfnets.models import catalogue, registry
from nfnets.models import config as model_config
from nfnets.weights import agreement, class_names, sources, timm, tree


class Loaded(NamedTuple):
  """A network with its weights, ready to use."""

  model: models.Model
  params: registry.Params
  state: registry.State
  class_names: tuple[str, ...]  # one per class
  eval_preset: str  # for test images, see `data.crops.eval_crop`
  images: dict[str, int] = {}  # see `save`


def load(
  path: str | pathlib.Path,
  name: str,
  refit: bool = False,
  reset_head: bool = False,
  **overrides: Any,
) -> tuple[registry.Params, registry.State]:
  """Loads weights for a model from a file in any supported format.

  The format is detected from the file's content, not its name. Nothing in the
  file is executed: pickles are read by a restricted unpickler that can only
  build arrays. The arrays must have exactly the model's names and shapes.

  To load DeepMind's NFNet-F0:

    model = nfnets.create_model('nfnet_f0')
    params, state = weights.load('F0_haiku.npz', 'nfnet_f0')
    (logits, _), _ = model.apply(params, state, None, images, False)

  Args:
    path: a file published by DeepMind, a safetensors file from timm or from
      `save`, or a Hugging Face id such as 'timm/dm_nfnet_f0.dm_in1k'; in
      paths, `~` and `$VARIABLES` are expanded.
    name: the model's name, see `create_model`.
    refit: for timm's dm_nfnet files: whether to change the gains so that our
      standardization yields timm's filters; with activation='gelu_erf' the
      logits then equal timm's. By default, the arrays are those of the file,
      bit for bit. No effect on models that standardize as timm does.
    reset_head: whether to replace the classifier by a newly initialized one.
    **overrides: options of `create_model`; num_classes=0 ignores the file's
      classifier. Options stored in the file apply by default; overrides may
      only contradict those that do not change what the network computes in
      evaluation, such as `drop_rate`.

  Returns:
    (params, state) for `model.apply`: {module: {name: array}} of float32 NumPy
    arrays. The state is empty except for networks with batch normalization.

  Raises:
    UserError: the file cannot be read, is damaged or unsafe, contradicts the
      overrides, or does not fit the model. In the last case, the message lists
      the first few arrays with both shapes, and the model that the file fits.
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
) -> tuple[registry.Params, registry.State]:
  """Loads weights for an existing model.

  Args:
    path: a file or hub id, see `load`.
    model: the model, see `create_model`.
    reset_head: whether to replace the classifier by a newly initialized one.

  Returns:
    (params, state) as returned by `load`.

  Raises:
    UserError: see `load`; also if the file stores options that differ from the
      model's configuration.
  """
  source = sources.read(path, model.config.name)
  return unpack(source, model, reset_head)


def unpack(
  source: sources.Source, model: models.Model, reset_head: bool = False
) -> tuple[registry.Params, registry.State]:
  """Does what `load_for` does, with a file that was read already.

  Args:
    source: the contents of the file.
    model: the model.
    reset_head: as in `load_for`.
  """
  name = model.config.name
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
  """Loads a network: model, weights, class names and evaluation preset.

  Args:
    path: a file or hub id, see `load`.
    name: the model's name. None takes the name stored in the file, or the only
      model with as many arrays and parameters.
    refit: see `load`; this also changes the activation to timm's GELU.
    **overrides: options of `create_model`. By default, the classifier has as
      many classes as the file's.

  Returns:
    The network.

  Raises:
    UserError: see `load`; also if the model's name cannot be determined.
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
    class_names.resolve(model.config.num_classes, source.class_names),
    source.eval_preset or catalogue.eval_preset(model.config),
    source.images,
  )


def _check_name(
  source: sources.Source, name: str, overrides: tree.Options
) -> None:
  """Raises an error if the file specifies another model."""
  if source.name in (None, name):
    return
  # If shapes differ, the error about them is more informative.
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
    f'{source.path}: holds {source.name}, not {name}; load it as {source.name}'
  )


def _options(
  source: sources.Source, name: str, reset_head: bool, overrides: tree.Options
) -> tree.Options:
  """Merges the file's options with overrides, which must agree with them."""
  stored = dict(source.options)
  if reset_head:
    stored.pop('num_classes', None)
  options = {**stored, **overrides}
  if stored and overrides:
    agreement.check_options(source, name, options)
  return options


def fit(
  source: sources.Source, model: models.Model, reset_head: bool
) -> tuple[tree.Flat, tree.Flat]:
  """Converts a file's arrays to a model's names, shapes and dtypes.

  Args:
    source: the contents of the file.
    model: the model.
    reset_head: whether to replace the classifier by a newly initialized one.

  Returns:
    Parameters and state by flat name, float32 and C-contiguous.

  Raises:
    UserError: the file does not have exactly the model's arrays, see
      `tree.check`.
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
  if reset_head or not model.config.num_classes:
    params = {k: v for k, v in params.items() if not tree.is_head(k)}
    targets = {k: v for k, v in targets.items() if not tree.is_head(k)}
  tree.check(params, targets, source.path, name, source.layout)
  tree.check(source.state, wanted.state, source.path, name, source.layout)
  if source.layout == 'timm':
    params = timm.from_timm(params, wanted.params, model.config)
  if reset_head:
    params |= _new_head(model, wanted.params)
  return (
    _as_wanted(params, wanted.params, source.path),
    _as_wanted(source.state, wanted.state, source.path),
  )


def _as_wanted(flat: tree.Flat, wanted: tree.Shapes, file: str) -> tree.Flat:
  """Returns C-contiguous arrays of the wanted dtypes (float32).

  Raises:
    UserError: an array holds other numbers than finite floating-point ones.
  """
  for path in wanted:
    dtype = flat[path].dtype
    if not np.issubdtype(wanted[path].dtype, np.floating):
      continue  # the counters of batch normalization
    if not jax.dtypes.issubdtype(dtype, np.floating):
      raise errors.UserError(
        f'{file}: {path} holds {dtype}, not floating-point numbers; pass'
        ' weights that are not quantized'
      )
    if not np.isfinite(flat[path]).all():
      raise errors.UserError(
        f'{file}: {path} holds numbers that are not finite; pass weights from'
        ' before the training diverged'
      )
  return {
    path: np.asarray(flat[path], wanted[path].dtype, order='C')
    for path in wanted
  }


def _new_head(model: models.Model, wanted: tree.Shapes) -> tree.Flat:
  """Initializes a classifier as `model.init` does, without the other arrays."""
  rng = np.random.default_rng(0)
  head = {}
  for path in wanted:
    if tree.is_head(path):
      shape = wanted[path].shape
      std = model.config.head_init if len(shape) > 1 else 0.0
      head[path] = std * rng.standard_normal(shape, np.float32)
  return head


def _refit(
  source: sources.Source, config: model_config.ModelConfig, params: tree.Flat
) -> tree.Flat:
  if source.layout != 'timm':
    raise errors.UserError(
      f'{source.path}: refit=True requires a file from timm, but this one has'
      f' layout {source.layout}; omit refit'
    )
  if config.ws_epsilon == 'additive':
    return params
  return timm.refit_from_timm(params)


def _guess_name(source: sources.Source) -> str:
  found = tree.find_models(source.params, source.layout)
  if len(found) == 1:
    return found[0]
  fitting = f'it fits {" and ".join(found)}' if found else 'it fits none'
  raise errors.UserError(
    f'{source.path}: does not specify its model ({fitting}); pass a name that'
    ' python -m nfnets.models lists'
  )
