"""Networks for inference: everything that is constant stands in the filters."""

from typing import Any

from nfnets import errors
from nfnets.layers import activations, ws_conv
from nfnets.models import config as model_config

# Convolutions whose input is no activation: gamma is not in front of them.
_NOT_ACTIVATED = frozenset(('stem_conv0', 'initial_conv', 'final_conv'))


def fold(
  params: dict[str, dict[str, Any]], config: model_config.ModelConfig
) -> dict[str, dict[str, Any]]:
  """Bakes standardization, gains and gammas into plain convolutions.

  The result is for the same model made with `folded=True`. Its logits are those
  of the original but for rounding: within 1e-5 of their standard deviation in
  float32 (2e-6 on F0), and the endpoints, the pooled vector among them, within
  2e-5 of theirs. It may run on the host or inside a jitted function.

  Args:
    params: {module: {name: array}}, as `model.init` makes them.
    config: of the model.

  Returns:
    The same without gains; arrays that are no filters are passed through.

  Raises:
    UserError: the network is folded already, or has nothing to fold.
  """
  if config.folded:
    raise errors.UserError(f'{config.name}: is folded already')
  if not any('gain' in values for values in params.values()):
    raise errors.UserError(
      f'{config.name}: has no standardized convolution to fold'
    )
  gamma = activations.get(config.activation).gamma
  folded = {}
  for module, values in params.items():
    folded[module] = values
    if 'gain' in values:
      activated = module.rsplit('/', 1)[-1] not in _NOT_ACTIVATED
      scale = gamma if activated or config.gamma_in_weights else 1.0
      weight = ws_conv.standardize_weight(
        values['w'], values['gain'] * scale, epsilon=config.ws_epsilon
      )
      folded[module] = {'w': weight, 'bias': values['bias']}
  return folded
