"""Every model by name."""

import dataclasses
import difflib
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import haiku as hk
import jax

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
)
from nfnets.models.config import ModelConfig

Params = dict[str, dict[str, jax.Array]]
State = dict[str, dict[str, jax.Array]]
Endpoints = dict[str, jax.Array]


Init = Callable[[jax.Array, jax.Array], tuple[Params, State]]
Apply = Callable[
  [Params, State, jax.Array | None, jax.Array, bool],
  tuple[tuple[jax.Array, Endpoints], State],
]


class Model(NamedTuple):
  """A network as pure functions.

  Attributes:
    init: (key, images) -> (params, state). Float32, whatever the images.
    apply: (params, state, key, images, is_training) -> ((logits, endpoints),
      state). images: float[B, H, W, 3], normalised; logits: float[B,
      num_classes] in the dtype of params and images, or the pooled vector
      float[B, C] when num_classes is 0. The key may be None outside training;
      is_training is static under jit. State is empty except for networks with
      batch normalization. endpoints, none of which costs anything under jit
      unless it is read:
        'stride_2', 'stride_4', ... 'stride_32': the last feature map of each
          resolution, not activated, float[B, ceil(H / s), ceil(W / s), C];
        'block_0', 'block_1', ...: every block's output;
        'block_0/residual', ...: its residual branch before stochastic depth,
          skip gain and alpha, same shape as the output;
        'pool': what the classifier sees before dropout, float[B, C].
    config: what the model is, see `config.ModelConfig`.
  """

  init: Init
  apply: Apply
  config: ModelConfig


_VARIANTS: dict[str, ModelConfig] = {
  **nfnet.VARIANTS,
  **nf_resnet.VARIANTS,
  **nf_regnet.VARIANTS,
  **resnet.VARIANTS,
  **timm_variants.VARIANTS,
}

_NETWORKS = {'ResNet': resnet.ResNet, 'Fixup_ResNet': resnet.FixupResNet}

# What names a model is not an option of it.
_FIXED = ('name', 'family', 'block_name', 'num_classes')
_BATCH_NORM = ('preactivation', 'batch_norm_axis')
# Of networks that are not made of NFBlocks.
_RESNET = (
  *('train_size', 'test_size', 'crop_pct', 'crop_mode', 'mean', 'std'),
  *('drop_rate', 'stochdepth_rate', 'widths', 'depth', 'width', 'activation'),
  *('remat', 'stem_width', 'bottleneck_ratio', 'padding', 'head_init'),
)


def list_models() -> list[str]:
  """The names that `create_model` knows, in the order of the tables."""
  return list(_VARIANTS)


def create_model(name: str, num_classes: int = 1000, **overrides: Any) -> Model:
  """Makes a model by name.

  Args:
    name: one of `list_models()`.
    num_classes: 0 makes a backbone without classifier.
    **overrides: fields of `ModelConfig` to change.

  Returns:
    The model; nothing is computed before `init` or `apply`.

  Raises:
    UserError: for an unknown name or override (with the nearest known one) or
      a combination that no network can have.
  """
  if name not in _VARIANTS:
    raise errors.UserError(
      f'no model is called {name!r}{_hint(name, list_models())}; '
      'list_models() has all names'
    )
  options = _options(_VARIANTS[name].family)
  for option in overrides:
    if option not in options:
      raise errors.UserError(
        f'{name} has no option {option!r}{_hint(option, options)}; '
        f'options: {", ".join(options)}'
      )
  # A config file's sequences are lists.
  values: dict[str, Any] = {
    option: tuple(value) if isinstance(value, list) else value
    for option, value in overrides.items()
  }
  config = dataclasses.replace(
    _VARIANTS[name], num_classes=num_classes, **values
  )
  scaling.plan_blocks(config)  # rejects impossible widths before any tracing
  return _build(config)


def folded(model: Model) -> tuple[Model, Callable[[Params], Params]]:
  """The network with its constants baked into plain convolutions.

  It saves a pass over all weights each time that it is applied; see
  `folding.fold` for how near its logits are.

  Args:
    model: the network.

  Returns:
    The folded network, and what makes its parameters of those of `model`, a
    differentiable function. The model itself and the identity where there is
    nothing to fold.
  """
  if model.config.folded or not model.config.standardize:
    return model, lambda params: params
  fold = functools.partial(folding.fold, config=model.config)
  return _build(dataclasses.replace(model.config, folded=True)), fold


def for_inference(model: Model, params: Params) -> tuple[Model, Params]:
  """`folded` model and parameters; those given where there is nothing to fold.

  Args:
    model: the network.
    params: its parameters.
  """
  other, fold = folded(model)
  # One program: a step by itself would be compiled for each shape of filter.
  return (model, params) if other is model else (other, jax.jit(fold)(params))


def _build(config: ModelConfig) -> Model:
  """Turns the Haiku module into pure functions."""

  def forward(
    images: jax.Array, is_training: bool
  ) -> tuple[jax.Array, Endpoints]:
    return make_network(config)(images, is_training)

  make_network = _NETWORKS.get(config.family, nfnet.NFNet)
  network = hk.transform_with_state(forward)

  return Model(initialization.make_init(forward), network.apply, config)


def _options(family: str) -> list[str]:
  """The fields of the config that mean something to a family."""
  if family == 'ResNet':
    return [*_RESNET, 'se_ratio', 'se_divisor', *_BATCH_NORM]
  if family == 'Fixup_ResNet':
    return list(_RESNET)
  fields = [field.name for field in dataclasses.fields(ModelConfig)]
  return [field for field in fields if field not in (*_FIXED, *_BATCH_NORM)]


def _hint(name: str, known: list[str]) -> str:
  """', did you mean ...?' for the nearest known name, if one is near."""
  near = difflib.get_close_matches(name, known, n=1)
  return f', did you mean {near[0]!r}?' if near else ''
