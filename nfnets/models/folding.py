"""Folding for inference: computes constant factors into the filters, once."""

from nfnets import errors
from nfnets.layers import activations, ws_conv
from nfnets.models.config import ModelConfig
from nfnets.models.types import Params

# Convolutions that no activation precedes: there is no gamma to fold.
_NOT_ACTIVATED = frozenset(('stem_conv0', 'initial_conv', 'final_conv'))


def fold(params: Params, config: ModelConfig) -> Params:
  """Folds standardization, gains and gammas into plain convolutions.

  The result is for the same model, created with `folded=True`. The outputs
  differ by rounding only: logits by at most 1e-5 of their standard deviation in
  float32 (2e-6 for F0), endpoints, including the pooled vector, by at most 2e-5
  of theirs. Works on the host and inside jitted functions.

  Args:
    params: the parameters, as `Model.init` returns them.
    config: the model's configuration.

  Returns:
    The parameters without gains; all but the filters are unchanged.

  Raises:
    UserError: if the network is already folded or has nothing to fold.
  """
  if config.folded:
    raise errors.UserError(f'{config.name} is already folded')
  if not any('gain' in values for values in params.values()):
    raise errors.UserError(
      f'{config.name} has no standardized convolution to fold'
    )
  gamma = activations.get(config.activation).gamma
  folded: Params = {}
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
