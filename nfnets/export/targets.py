"""Writes a network in any layout."""

import json
import pathlib

from nfnets import errors, models, weights
from nfnets.export import description, onnx_graph, stablehlo, timm_folder
from nfnets.weights import files as weights_files
from nfnets.weights import tree

_PROGRAMS = ('stablehlo', 'onnx')


def write(
  loaded: weights.Loaded,
  destination: pathlib.Path,
  layout: str,
  *,
  uint8: bool = False,
  probabilities: bool = False,
  preprocess: bool = False,
) -> None:
  """Writes a network to a file or, for timm, a folder.

  Args:
    loaded: the network.
    destination: the file to write; an existing one is replaced atomically.
    layout: a layout that --help lists.
    uint8: whether a program's input is uint8, not normalized.
    probabilities: whether a program's output is probabilities.
    preprocess: whether an ONNX file's input is uint8 of any size.

  Raises:
    UserError: the layout cannot store this network, or the file cannot be
      written.
  """
  if layout == 'timm':
    _write_for_timm(loaded, destination)
    return
  if layout in _PROGRAMS:
    options = {'uint8': uint8, 'probabilities': probabilities}
    if layout == 'onnx':
      options['preprocess'] = preprocess
    _write_program(loaded, destination, layout, options)
    return
  if layout == 'folded':
    model, params = models.for_inference(loaded.model, loaded.params)
    loaded = loaded._replace(model=model, params=params)
  weights.save(
    destination,
    loaded.params,
    loaded.state,
    loaded.model.config.name,
    'nfnets' if layout == 'folded' else layout,
    class_names=loaded.class_names,
    images=loaded.images,
    eval_preset=loaded.eval_preset,
    **tree.options(loaded.model.config),
  )


def _write_for_timm(loaded: weights.Loaded, destination: pathlib.Path) -> None:
  if destination.suffix == '.safetensors':
    timm_folder.write_tensors(loaded, destination)
  else:
    timm_folder.write(loaded, destination)
  if difference := timm_folder.difference(loaded):
    print(
      f"timm's logits differ from ours by up to {difference:.1e} of their"
      ' standard deviation: it computes GELU with erf, and this network with'
      ' tanh'
    )


def _write_program(
  loaded: weights.Loaded,
  destination: pathlib.Path,
  layout: str,
  options: dict[str, bool],
) -> None:
  if options['probabilities'] and not loaded.model.config.num_classes:
    raise errors.UserError(
      f'{loaded.model.config.name} has no classifier; omit --probabilities'
    )
  export = (
    onnx_graph.export_onnx if layout == 'onnx' else stablehlo.export_program
  )
  program = export(loaded, **options)
  with weights_files.replacing(destination) as temporary:
    temporary.write_bytes(program)
  if layout == 'stablehlo':
    beside = destination.with_name(f'{destination.name}.json')
    described = description.describe(loaded, **options)
    with weights_files.replacing(beside) as temporary:
      temporary.write_text(json.dumps(described, indent=2) + '\n')
