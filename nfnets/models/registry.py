"""Models by name."""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import haiku as hk
import jax
from jax import numpy as jnp

from nfnets import errors
from nfnets.models import (
  folding,
  initialization,
  nf_regnet,
  nf_resnet,
  nfnet,
  resnet,
  scaling,
  timm_variants,
  types,
)
from nfnets.models.config import ModelConfig

Params = types.Params
State = types.State
Endpoints = types.Endpoints
Apply = Callable[
  [Params, State, jax.Array | None, jax.Array, bool],
  tuple[tuple[jax.Array, Endpoints], State],
]


class Model(NamedTuple):
  """A network as pure functions.

  Attributes:
    init: (key, images) -> (params, state), float32.
    apply: (params, state, key, images, is_training) -> ((logits, endpoints),
      state). images: float[B, H, W, 3], normalized; logits: float[B,
      num_classes] in the dtype of params and images, or the pooled vector
      float[B, C] if num_classes is 0. Other images raise a ValueError. The key
      determines dropout and stochastic depth in training, image by image: with
      key[B] image i draws from key[i], and with a single key from fold_in(key,
      i). It may be None outside training. is_training is static under jit. The
      state is empty except for networks with batch normalization. Under jit,
      endpoints cost nothing unless they are used:
        'stride_2', 'stride_4', ... 'stride_32': the last feature map of each
          resolution before its activation, float[B, ceil(H / s), ceil(W / s),
          C]; with the stem 'small', 'stride_1' to 'stride_8';
        'block_0', 'block_1', ...: the output of each block;
        'block_0/residual', ...: its residual branch before stochastic depth,
          skip gain and alpha, same shape as the output;
        'pool': the pooled vector before dropout, float[B, C].
    config: the model's configuration.
    frozen_parts: see `frozen`.
  """

  init: initialization.Init
  apply: Apply
  config: ModelConfig
  frozen_parts: int = 0


_VARIANTS: dict[str, ModelConfig] = {
  **nfnet.VARIANTS,
  **nf_resnet.VARIANTS,
  **nf_regnet.VARIANTS,
  **resnet.VARIANTS,
  **timm_variants.VARIANTS,
}

_NETWORKS = {'ResNet': resnet.ResNet, 'Fixup_ResNet': resnet.FixupResNet}

# Fields that identify a model, and thus are not options.
_FIXED = ('name', 'family', 'block_name', 'num_classes')
_BATCH_NORM = ('preactivation', 'batch_norm_axis')
# Options of the families without NFBlocks.
_RESNET = (
  *('train_size', 'test_size', 'crop_pct', 'crop_mode', 'mean', 'std'),
  *('drop_rate', 'stochdepth_rate', 'widths', 'depth', 'width', 'activation'),
  *('remat', 'stem', 'stem_width', 'bottleneck_ratio', 'padding', 'head_init'),
)
_RESNET_STEMS = ('7x7_pool', 'small')


def list_models() -> list[str]:
  """Lists the names of all models.

  Returns:
    The names that `create_model` accepts: NFNets, NF-ResNets, NF-RegNets, the
    baselines, then the models of timm.

  Example:
    >>> import nfnets
    >>> [name for name in nfnets.list_models() if 'nf_resnet1' in name]
    ['nf_resnet101', 'nf_resnet152', 'timm_nf_resnet101']
  """
  return list(_VARIANTS)


def create_model(name: str, num_classes: int = 1000, **overrides: Any) -> Model:
  """Creates a model by name.

  Args:
    name: one of `list_models()`.
    num_classes: number of classes; 0 creates a backbone without classifier.
    **overrides: fields of `ModelConfig` to change, such as `width` or
      `activation`.

  Returns:
    The model, as pure functions. Nothing is computed before they are called.

  Raises:
    UserError: if the name or an override is unknown (the message suggests the
      nearest known one), or if no network can have these values.

  Example:
    >>> import jax
    >>> import nfnets
    >>> model = nfnets.create_model(
    ...   'nf_resnet50', num_classes=10, width=0.5, depth=(1, 1, 1, 1)
    ... )
    >>> images = jax.numpy.ones((2, 64, 64, 3))
    >>> params, state = model.init(jax.random.key(0), images)
    >>> apply = jax.jit(model.apply, static_argnames='is_training')
    >>> (logits, endpoints), state = apply(
    ...   params, state, None, images, is_training=False
    ... )
    >>> logits.shape, endpoints['stride_8'].shape
    ((2, 10), (2, 8, 8, 64))
  """
  if name not in _VARIANTS:
    raise errors.UserError(
      f'no model is named {name!r}{errors.hint(name, list_models())}; '
      'list_models() lists all names'
    )
  options = _options(_VARIANTS[name].family)
  for option in overrides:
    if option not in options:
      raise errors.UserError(
        f'{name} has no option {option!r}{errors.hint(option, options)}; '
        f'options: {", ".join(options)}'
      )
  # Configuration files have lists, records have tuples.
  values: dict[str, Any] = {
    option: tuple(value) if isinstance(value, list) else value
    for option, value in overrides.items()
  }
  config = dataclasses.replace(
    _VARIANTS[name], num_classes=num_classes, **values
  )
  if config.family in _NETWORKS and config.stem not in _RESNET_STEMS:
    raise errors.UserError(
      f'stem is {config.stem!r}, but {name} can only have one of'
      f' {", ".join(_RESNET_STEMS)}'
    )
  scaling.plan_blocks(config)  # rejects impossible widths before any tracing
  return _build(config)


def folded(model: Model) -> tuple[Model, Callable[[Params], Params]]:
  """Returns the model with its constant factors folded into the filters.

  A folded network does not standardize all weights whenever it is applied. See
  `folding.fold` for the accuracy of its outputs.

  Args:
    model: the model.

  Returns:
    The folded model, and a differentiable function that converts the model's
    parameters to the folded model's. If there is nothing to fold: the model
    itself and the identity.
  """
  if model.config.folded or not model.config.standardize:
    return model, lambda params: params
  fold = functools.partial(folding.fold, config=model.config)
  config = dataclasses.replace(model.config, folded=True)
  return _build(config, model.frozen_parts), fold


def frozen(model: Model, parts: int) -> Model:
  """Returns the model with its first parts frozen.

  No gradient passes them, so their backward pass is not computed. Their batch
  normalization uses its running statistics in training too, and leaves them
  unchanged. Dropout and stochastic depth are not affected.

  Args:
    model: the model.
    parts: 0: none; 1: the stem; 2 to 5: the first stages too; 6: all but the
      classifier.

  References:
    Wu et al, `Detectron2 <https://github.com/facebookresearch/detectron2>`_,
    2019 (FrozenBatchNorm2d).
  """
  return _build(model.config, parts)


def for_inference(model: Model, params: Params) -> tuple[Model, Params]:
  """Folds a model and its parameters.

  Args:
    model: the model.
    params: its parameters.

  Returns:
    The folded model and parameters, or the arguments if there is nothing to
    fold.
  """
  other, fold = folded(model)
  # Jitted as one program: otherwise JAX compiles one for each filter shape.
  return (model, params) if other is model else (other, jax.jit(fold)(params))


def _build(config: ModelConfig, frozen_parts: int = 0) -> Model:
  """Transforms the network's Haiku modules into pure functions."""

  def forward(
    images: jax.Array, is_training: bool, keys: jax.Array | None
  ) -> tuple[jax.Array, Endpoints]:
    _check_images(images)
    # Running statistics do not exist before the network is initialized.
    frozen = 0 if hk.running_init() else frozen_parts
    return make_network(config)(images, is_training, keys, frozen)

  def apply(
    params: Params,
    state: State,
    key: jax.Array | None,
    images: jax.Array,
    is_training: bool,
  ) -> tuple[tuple[jax.Array, Endpoints], State]:
    keys = None if key is None else _image_keys(key, images.shape[0])
    return network.apply(params, state, None, images, is_training, keys)

  make_network = _NETWORKS.get(config.family, nfnet.NFNet)
  network = hk.transform_with_state(forward)
  init = initialization.make_init(forward)
  return Model(init, apply, config, frozen_parts)


def _check_images(images: jax.Array) -> None:
  """Raises a ValueError unless images are float[B, H, W, 3] with B >= 1."""
  expected = 'expected float[B, H, W, 3]: at least one image, channels last'
  if images.ndim != 4 or images.shape[-1] != 3 or 0 in images.shape:
    raise ValueError(f'images have shape {images.shape}, {expected}')
  if not jnp.issubdtype(images.dtype, jnp.floating):
    raise ValueError(
      f'images have dtype {images.dtype}, {expected}; convert them with'
      ' nfnets.augment.preprocess.normalize'
    )


def _image_keys(key: jax.Array, count: int) -> jax.Array:
  """Returns one random key per image, key[count]."""
  if not jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
    key = jax.random.wrap_key_data(key)  # from jax.random.PRNGKey
  if key.ndim == 0:
    return jax.vmap(lambda i: jax.random.fold_in(key, i))(jnp.arange(count))
  if key.shape != (count,):
    raise ValueError(f'{count} images need {count} keys, got {key.shape}')
  return key


def _options(family: str) -> list[str]:
  """Returns the configuration fields that a family uses."""
  if family == 'ResNet':
    return [*_RESNET, 'se_ratio', 'se_divisor', *_BATCH_NORM]
  if family == 'Fixup_ResNet':
    return list(_RESNET)
  fields = [field.name for field in dataclasses.fields(ModelConfig)]
  return [field for field in fields if field not in (*_FIXED, *_BATCH_NORM)]
