"""Writes a folder that timm loads: `timm.create_model('local-dir:FOLDER')`."""

import json
import pathlib
from typing import Any

import jax
import numpy as np

from nfnets import errors, models, weights
from nfnets.models import catalogue, scaling
from nfnets.models import config as model_config
from nfnets.weights import files, tree

# Our activations that timm has -> timm's name. gelu is the exact one in timm.
_ACTIVATIONS = {
  **dict.fromkeys(('gelu', 'gelu_erf'), 'gelu'),
  **{
    name: name
    for name in (
      'celu', 'elu', 'leaky_relu', 'relu', 'relu6', 'selu', 'sigmoid', 'silu',
      'tanh',
    )
  },
}  # fmt: skip
_STEMS = {'deep': 'deep_quad', '3x3': '3x3', '7x7_pool': '7x7_pool'}


def write(loaded: weights.Loaded, path: pathlib.Path) -> None:
  """Writes model.safetensors and config.json.

  Args:
    loaded: the network.
    path: the folder; created if necessary. Its files are replaced atomically.

  Raises:
    UserError: timm cannot build the network, or the folder cannot be written.
  """
  config = describe(loaded)
  try:
    path.mkdir(exist_ok=True)
  except OSError as error:
    raise errors.UserError(
      f'{path}: is not a folder and cannot become one: {error.strerror};'
      ' --to=timm writes a folder unless the name ends in .safetensors'
    ) from None
  write_tensors(loaded, path / 'model.safetensors')
  with files.replacing(path / 'config.json') as temporary:
    temporary.write_text(json.dumps(config, indent=2) + '\n')


def write_tensors(loaded: weights.Loaded, path: pathlib.Path) -> None:
  """Writes the state dict alone, refitted to timm's standardization.

  Args:
    loaded: the network.
    path: the safetensors file.

  Raises:
    UserError: timm lacks the network, or the file cannot be written.
  """
  config = loaded.model.config
  weights.save(
    path,
    loaded.params,
    loaded.state,
    config.name,
    'timm',
    refit=True,
    **tree.options(config),
  )


def describe(loaded: weights.Loaded) -> dict[str, Any]:
  """Returns what timm reads from config.json.

  Args:
    loaded: the network.

  Raises:
    UserError: timm cannot build the network.
  """
  config = loaded.model.config
  _check(config)
  size = config.test_size
  crop_pct, crop_mode = config.crop_pct, config.crop_mode
  if loaded.eval_preset != 'timm':  # resized to S + 32 pixels
    crop_pct = size / (size + 32)
    crop_mode = 'squash' if loaded.eval_preset == 'deepmind' else 'center'
  stem = 'stem.conv1' if config.stem == 'deep' else 'stem.conv'
  return {
    'architecture': catalogue.timm_name(config.name),
    'num_classes': config.num_classes,
    'label_names': list(loaded.class_names),
    'model_args': _model_args(config),
    'pretrained_cfg': {
      'num_classes': config.num_classes,
      'input_size': [3, size, size],
      'interpolation': 'bicubic',
      'crop_pct': crop_pct,
      'crop_mode': crop_mode,
      'mean': list(config.mean),
      'std': list(config.std),
      'first_conv': stem,
      'classifier': 'head.fc',
    },
  }


def _check(config: model_config.ModelConfig) -> None:
  """Raises an error that names the first option that timm cannot express."""
  default = models.create_model(config.name).config
  wrong = [
    field
    for field in ('standardize', 'folded', 'pool_shortcut', 'padding',
                  'gamma_in_weights')
    if catalogue.timm_name(config.name)
    and getattr(config, field) != getattr(default, field)
  ]  # fmt: skip
  if config.activation not in _ACTIVATIONS:
    wrong.append('activation')
  # timm's max pooling does not pad as a published network's convolutions do.
  if config.stem not in ('3x3', default.stem):
    wrong.append('stem')
  if config.stem == 'deep' and scaling.stem_channels(config) != 128:
    wrong.append('stem_width')
  plans = [plan for stage in scaling.plan_blocks(config) for plan in stage]
  for block, plan in enumerate(plans):
    if _bottleneck(config, plan, block == 0) != plan.bottleneck:
      wrong.append('bottleneck_ratio')
    channels = plan.bottleneck if config.inverted else plan.out_channels
    exact = channels * config.se_ratio
    ours = scaling.hidden_channels(channels, config.se_ratio, config.se_divisor)
    if config.se_ratio and ours != _rounded(exact, config.se_divisor):
      wrong.append('se_ratio')
  if catalogue.timm_name(config.name) and wrong:
    field = wrong[0]
    raise errors.UserError(
      f'{config.name}: timm cannot build a network with'
      f' {field}={getattr(config, field)!r}; choose another {field}, or'
      ' --to=onnx or --to=stablehlo'
    )


def _rounded(channels: float, divisor: int) -> int:
  """Returns timm's make_divisible, without its limit of 10%."""
  return max(divisor, int(channels + divisor / 2) // divisor * divisor)


def _bottleneck(
  config: model_config.ModelConfig, plan: scaling.BlockPlan, first: bool
) -> int:
  """Returns the width of a bottleneck by timm's formula."""
  channels = plan.in_channels if config.inverted else plan.out_channels
  ratio = 1.0 if config.inverted and first else config.bottleneck_ratio
  width = _rounded(channels * ratio, config.channel_divisor)
  if width < 0.9 * channels * ratio:
    width += config.channel_divisor
  size = config.group_size
  return width // size * size if size else width


def _model_args(config: model_config.ModelConfig) -> dict[str, Any]:
  """Returns the fields of timm's NfCfg, with explicit numbers of channels."""
  attention: dict[str, Any] = {'attn_layer': None}
  if config.eca:
    attention = {'attn_layer': 'eca', 'attn_kwargs': {}}
  elif config.se_ratio:
    arguments = {'rd_ratio': config.se_ratio, 'rd_divisor': config.se_divisor}
    attention = {'attn_layer': 'se', 'attn_kwargs': arguments}
  final = scaling.final_channels(config) if config.final_width else 0
  return {
    'depths': list(config.depth),
    'channels': scaling.stage_channels(config),
    'stem_type': _STEMS[config.stem],
    'stem_chs': scaling.stem_channels(config),
    'width_factor': 1.0,
    'bottle_ratio': config.bottleneck_ratio,
    'group_size': config.group_size or None,
    'ch_div': config.channel_divisor,
    'num_features': final,
    'reg': config.inverted,
    'extra_conv': config.extra_conv,
    'alpha': config.alpha,
    'gamma_in_act': not config.gamma_in_weights,
    'same_padding': config.padding == 'same',
    'skipinit': config.skip_gain,
    'act_layer': _ACTIVATIONS[config.activation],
    **attention,
  }


def difference(loaded: weights.Loaded) -> float:
  """Measures how far timm's logits are from ours, on two generated images.

  The folder's filters equal ours, but timm computes GELU with erf, not tanh.

  Args:
    loaded: the network.

  Returns:
    The largest difference divided by the standard deviation of our logits; 0
    unless the network uses the tanh form.
  """
  config = loaded.model.config
  if config.activation != 'gelu':
    return 0.0
  options = {**tree.options(config), 'activation': 'gelu_erf'}
  other = models.create_model(config.name, **options)
  size = config.test_size
  images = np.random.default_rng(0).normal(size=(2, size, size, 3))
  results = [
    jax.jit(model.apply, static_argnums=4)(
      loaded.params, loaded.state, None, images.astype(np.float32), False
    )[0][0]
    for model in (loaded.model, other)
  ]
  ours, theirs = map(np.asarray, results)
  return float(np.abs(theirs - ours).max() / max(ours.std(), 1e-30))
