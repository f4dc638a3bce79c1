"""Writes a network as an ONNX file, directly from its folded parameters."""

import json
from typing import Any

from nfnets import errors, models, weights
from nfnets.export import description, onnx_images, onnx_layers, onnx_nodes
from nfnets.layers import activations, squeeze_excite
from nfnets.models import scaling
from nfnets.weights import tree

_MAX_BYTES = 2**31 - 2**20  # of a protocol buffer, with room for the graph


def export_onnx(
  loaded: weights.Loaded,
  *,
  uint8: bool = False,
  probabilities: bool = False,
  preprocess: bool = False,
) -> bytes:
  """Exports a network, including its weights, as an ONNX model.

  Args:
    loaded: the network, from `weights.load_model`.
    uint8: whether the input is uint8[b, S, S, 3], cropped and resized, with S
      the model's test size; otherwise it is float32[b, S, S, 3], normalized.
    probabilities: whether the output is probabilities, not logits.
    preprocess: whether the input is uint8[b, H, W, 3] of any size, which the
      model resizes and crops.

  Returns:
    The serialized model, of opset 20. Its metadata is `description.describe`,
    each value as JSON.

  Raises:
    UserError: the package onnx is missing, or the model is larger than the
      2 GiB that an ONNX file can hold.
  """
  onnx = onnx_nodes.import_onnx()
  model, params = models.for_inference(loaded.model, loaded.params)
  size = sum(4 * array.size for array in tree.flatten(params).values())
  if size > _MAX_BYTES:
    raise errors.UserError(
      f'{model.config.name} has {size} bytes of weights; an ONNX file holds at'
      ' most 2 GiB: use --to=stablehlo'
    )
  network = _Network(loaded._replace(model=model, params=params))
  result = network.write(uint8, preprocess)
  if probabilities:
    network.nodes.add('Softmax', result, axis=-1)
  described = description.describe(
    loaded, uint8=uint8, probabilities=probabilities, preprocess=preprocess
  )
  exported = onnx.helper.make_model(
    network.graph(str(described['output']), uint8 or preprocess, preprocess),
    opset_imports=[onnx.helper.make_opsetid('', onnx_nodes.OPSET)],
    ir_version=onnx_nodes.IR_VERSION,
    producer_name='nfnets',
  )
  metadata = {key: json.dumps(value) for key, value in described.items()}
  onnx.helper.set_model_props(exported, metadata)
  return exported.SerializeToString()


class _Network(onnx_layers.Layers):
  """Adds a folded network to a graph."""

  def graph(self, output: str, integers: bool, any_size: bool) -> Any:
    """Returns the graph; its last node gets the name of the output."""
    helper, types = self.nodes.onnx.helper, self.nodes.onnx.TensorProto
    self.nodes.nodes[-1].output[0] = output
    side = self.config.test_size
    sides = ['h', 'w'] if any_size else [side, side]
    kind = types.UINT8 if integers else types.FLOAT
    images = helper.make_tensor_value_info('images', kind, ['b', *sides, 3])
    shape = ['b', self.outputs]
    return helper.make_graph(
      self.nodes.nodes,
      self.config.name,
      [images],
      [helper.make_tensor_value_info(output, types.FLOAT, shape)],
      self.nodes.constants,
    )

  def write(self, uint8: bool, preprocess: bool) -> str:
    """Adds the whole network; returns its output."""
    family = self.config.family
    images = onnx_images.add_images(
      self.nodes, self.loaded, uint8=uint8, preprocess=preprocess
    )
    h = self._stem(images, f'{family}/~')
    block = 0
    for stage in scaling.plan_blocks(self.config):
      for plan in stage:
        name = self.config.block_name
        if family == 'ResNet':
          name += '_v2' if self.config.preactivation else '_v1'
        suffix = f'_{block}' if block else ''
        h = self._block(h, f'{family}/~/{name}{suffix}', plan)
        self.halve(plan.stride)
        block += 1
    h = self._pool(h, f'{family}/~')
    if not self.config.num_classes:
      return h
    kernel = self.array(family, '~', 'linear', 'w')
    bias = self.array(family, '~', 'linear', 'b')
    self.outputs = len(bias)
    constants = map(self.nodes.constant, (kernel, bias))
    return self.nodes.add('Gemm', h, *constants)

  def _stem(self, h: str, root: str) -> str:
    if self.config.stem == 'deep':
      for i, stride in enumerate((2, 1, 1, 2)):
        h = self.activate(h) if i else h
        h = self.conv(h, f'{root}/stem_conv{i}', stride=stride)
        self.halve(stride)
      return h
    name, kind = f'{root}/initial_conv', self.config.family
    _, stride = scaling.stem_filters(self.config)
    if kind == 'ResNet' and not self.config.preactivation:
      h = self.conv(h, name, stride=stride, norm=f'{root}/initial_bn')
      h = self.activate(h)
    elif kind == 'Fixup_ResNet':
      bias = self.scalar(self.config.family, 'bias1')
      h = self.activate(self.conv(h, name, stride=stride, bias=bias))
    else:
      h = self.conv(h, name, stride=stride)
    self.halve(stride)
    if self.config.stem == '7x7_pool':
      h = self.nodes.max_pool(h, self.size)
      self.halve()
    return h

  def _pool(self, h: str, root: str) -> str:
    """Adds the layers between the last block and the classifier."""
    config = self.config
    channels = scaling.stage_channels(config)[-1]
    if config.family == 'ResNet':
      if config.preactivation:
        h = self.activate(self.normalize(h, f'{root}/final_bn'))
    elif config.family != 'Fixup_ResNet':
      if config.final_width:
        h = self.conv(h, f'{root}/final_conv')
        channels = scaling.final_channels(config)
      h = self.activate(h)
    self.outputs = channels
    h = self.nodes.add('GlobalAveragePool', h)
    if config.standardize and not config.gamma_in_weights:
      h = self.nodes.scale(h, activations.get(config.activation).gamma)
    if config.family == 'Fixup_ResNet' and config.num_classes:
      h = self.nodes.shift(h, self.scalar(config.family, 'bias2'))
    return self.nodes.add('Flatten', h)

  def _block(self, x: str, module: str, plan: scaling.BlockPlan) -> str:
    """Adds a block of any family."""
    if self.config.family == 'ResNet':
      return self._res_block(x, module, plan)
    if self.config.family == 'Fixup_ResNet':
      return self._fixup_block(x, module, plan)
    return self._nf_block(x, module, plan)

  def _nf_block(self, x: str, module: str, plan: scaling.BlockPlan) -> str:
    config, nodes = self.config, self.nodes
    after = -(-self.size // plan.stride)
    # beta is multiplied into the filters that follow the activation.
    activated, beta = self.activate(x), plan.beta
    shortcut = x
    if plan.stride > 1 or plan.in_channels != plan.out_channels:
      pooled = config.pool_shortcut and plan.stride > 1
      source = nodes.average_pool(activated, self.size) if pooled else activated
      shortcut = self.at(
        after if pooled else self.size,
        source,
        f'{module}/~/conv_shortcut',
        stride=1 if config.pool_shortcut else plan.stride,
        factor=beta,
      )
    h = self.conv(activated, f'{module}/~/conv0', factor=beta)
    h = self.conv(
      self.activate(h),
      f'{module}/~/conv1',
      stride=plan.stride,
      groups=plan.groups,
    )
    if config.extra_conv:
      h = self.at(
        after,
        self.activate(h),
        f'{module}/~/conv1b',
        groups=plan.groups,
      )
    gain = squeeze_excite.ATTENTION_GAIN
    if config.inverted:
      h = self.attend(h, module, plan.bottleneck, gain)
    h = self.at(after, self.activate(h), f'{module}/~/conv2')
    factor = config.alpha
    if config.skip_gain:
      factor *= self.scalar(module, 'skip_gain')
    if config.inverted or not (config.eca or config.se_ratio):
      h = nodes.scale(h, factor)
    else:
      h = self.attend(h, module, plan.out_channels, gain * factor)
    return nodes.add('Add', shortcut, h)

  def _res_block(self, x: str, module: str, plan: scaling.BlockPlan) -> str:
    """Adds a block with batch normalization, see `resnet.ResBlock`."""
    first, after = self.config.preactivation, -(-self.size // plan.stride)
    root = f'{module}/~'
    start = self.activate(self.normalize(x, f'{root}/bn0')) if first else x
    shortcut = x
    if plan.stride > 1 or plan.in_channels != plan.out_channels:
      shortcut = self.conv(
        start,
        f'{root}/conv_shortcut',
        stride=plan.stride,
        norm='' if first else f'{root}/shortcut_bn',
      )
    norms = ('bn1', 'bn2', '') if first else ('bn0', 'bn1', 'bn2')
    names = [f'{root}/{name}' if name else '' for name in norms]
    h = self.activate(self.conv(start, f'{root}/conv0', norm=names[0]))
    h = self.conv(h, f'{root}/conv1', stride=plan.stride, norm=names[1])
    h = self.at(after, self.activate(h), f'{root}/conv2', norm=names[2])
    h = self.attend(h, module, plan.out_channels, 1.0)
    h = self.nodes.add('Add', shortcut, h)
    return h if first else self.activate(h)

  def _fixup_block(self, x: str, module: str, plan: scaling.BlockPlan) -> str:
    """Adds a Fixup block, see `resnet.FixupBlock`."""
    nodes, root = self.nodes, f'{module}/~'
    after = -(-self.size // plan.stride)
    names = ('1a', '1b', '2a', '2b', '3a', '3b')
    bias = {name: self.scalar(module, f'bias{name}') for name in names}
    scale = self.scalar(module, 'scale')
    shortcut, start = x, nodes.shift(x, bias['1a'])
    if plan.stride > 1 or plan.in_channels != plan.out_channels:
      shortcut = self.conv(start, f'{root}/conv_shortcut', stride=plan.stride)
    h = self.activate(self.conv(start, f'{root}/conv0', bias=bias['1b']))
    h = self.conv(
      nodes.shift(h, bias['2a']),
      f'{root}/conv1',
      stride=plan.stride,
      bias=bias['2b'],
    )
    h = nodes.shift(self.activate(h), bias['3a'])
    h = self.at(after, h, f'{root}/conv2', factor=scale, bias=bias['3b'])
    return self.activate(nodes.add('Add', shortcut, h))
