"""Exports a network as a portable StableHLO program."""

import jax
import numpy as np
from jax import export

from nfnets import models, weights
from nfnets.augment import preprocess
from nfnets.layers import convolution


def export_program(
  loaded: weights.Loaded, *, uint8: bool = False, probabilities: bool = False
) -> bytes:
  """Exports the network, including its weights, as a portable program.

  Args:
    loaded: the network, from `weights.load_model`.
    uint8: whether the input is uint8[b, S, S, 3], cropped and resized, with S
      the model's test size; otherwise it is float32[b, S, S, 3], normalized.
    probabilities: whether the output is probabilities, not logits.

  Returns:
    Serialized StableHLO for `jax.export.deserialize`, which takes it as a
    bytearray. The program's `call` maps the images, with any b, to
    float32[b, num_classes] (a backbone's pooled features float32[b, C]), on
    cpu, cuda and tpu.
  """
  model, params = models.for_inference(loaded.model, loaded.params)
  config, size = model.config, model.config.test_size
  (batch,) = export.symbolic_shape('b')
  dtype = np.uint8 if uint8 else np.float32
  images = jax.ShapeDtypeStruct((batch, size, size, 3), dtype)

  def apply(inputs: jax.Array) -> jax.Array:
    if uint8:
      inputs = preprocess.normalize(inputs, config.mean, config.std)
    (outputs, _), _ = model.apply(params, loaded.state, None, inputs, False)
    return jax.nn.softmax(outputs) if probabilities else outputs

  exporting = export.export(jax.jit(apply), platforms=('cpu', 'cuda', 'tpu'))
  # The platform-specific lowerings depend on the batch size, unknown here.
  with convolution.lowering('plain'):
    return bytes(exporting(images).serialize())
