"""Turns any weights into any layout, or into a program.

python -m nfnets.convert SOURCE DESTINATION --to=LAYOUT
"""

import argparse
import pathlib
from typing import TYPE_CHECKING, Any

from nfnets import cli, errors

if TYPE_CHECKING:
  from nfnets import weights

_LAYOUTS = {
  'nfnets': 'safetensors with model, settings and class names',
  'deepmind': 'a pickle as the published files are',
  'timm': "safetensors of timm's state dict",
  'folded': 'as nfnets, standardization and gains baked into the filters',
  'stablehlo': 'a program: jax.export, any batch size, cpu, cuda and tpu',
}
_CHECKPOINTS = 'checkpoints'


def main() -> None:
  """Reads the command line and converts."""
  options = _parser().parse_args()
  source, destination = options.source, pathlib.Path(options.destination)
  if not destination.parent.is_dir():
    raise errors.UserError(f'{destination.parent}: no such directory')
  # JAX is imported here: --help and mistakes in paths answer at once.
  from nfnets import weights
  from nfnets.runtime import compilation

  compilation.prepare()
  if pathlib.Path(source).is_dir():
    if options.refit_from_timm:
      raise errors.UserError(f"{source}: a training run, no file of timm's")
    loaded = load_run(pathlib.Path(source), options.ema, options.step)
  else:
    loaded = weights.load_model(
      source, options.model, refit=options.refit_from_timm
    )
  write(loaded, destination, options.to, refit=options.refit_to_timm)
  print(f'{destination}: {loaded.model.config.name}, layout {options.to}')


def _parser() -> argparse.ArgumentParser:
  parser = argparse.ArgumentParser(
    prog='python -m nfnets.convert',
    description='Turns weights from one layout into another.',
    formatter_class=argparse.RawDescriptionHelpFormatter,
    epilog='layouts:\n'
    + '\n'.join(f'  {name:10}{what}' for name, what in _LAYOUTS.items()),
  )
  parser.add_argument(
    'source',
    metavar='SOURCE',
    help='a file of any of the first four layouts, the workdir of a training'
    ' run, or a model of the Hugging Face hub: timm/dm_nfnet_f0.dm_in1k',
  )
  parser.add_argument('destination', metavar='DESTINATION', help='a file')
  parser.add_argument('--to', required=True, choices=_LAYOUTS)
  parser.add_argument(
    '--model', metavar='NAME', help='where the file does not tell its model'
  )
  _add_run_arguments(parser)
  _add_refit_arguments(parser)
  return parser


def _add_run_arguments(parser: argparse.ArgumentParser) -> None:
  run = parser.add_argument_group('of a training run')
  run.add_argument(
    '--ema',
    action=argparse.BooleanOptionalAction,
    default=True,
    help='the averaged weights, where the run kept them (default)',
  )
  run.add_argument('--step', type=int, help='the checkpoint (default: newest)')


def _add_refit_arguments(parser: argparse.ArgumentParser) -> None:
  refit = parser.add_argument_group(
    "dm_nfnet of timm, which standardizes filters by another epsilon; GELU's"
    ' erf stays: activation=gelu_erf here'
  )
  refit.add_argument(
    '--refit_from_timm',
    action='store_true',
    help='change the gains of a file of timm so that filters are the same here',
  )
  refit.add_argument(
    '--refit_to_timm',
    action='store_true',
    help='with --to=timm: change the gains so that filters are the same there',
  )


def load_run(
  workdir: pathlib.Path, ema: bool, step: int | None
) -> 'weights.Loaded':
  """Reads the weights of a training run.

  Args:
    workdir: of `nfnets.experiment`.
    ema: the moving average, where one was kept.
    step: of the checkpoint; None is the newest.

  Returns:
    The network, with its classes and the way its images were cut.

  Raises:
    UserError: there is no such checkpoint, or it cannot be read.
  """
  from nfnets import models, weights
  from nfnets.training import checkpoint
  from nfnets.weights import class_names, tree

  saved = checkpoint.read_weights(workdir / _CHECKPOINTS, step, ema=ema)
  settings = saved.config
  if not isinstance(settings, dict) or 'model.name' not in settings:
    raise errors.UserError(
      f'{workdir}: its checkpoints do not tell their model; they are not of'
      ' python -m nfnets.experiment'
    )
  num_classes = tree.num_classes(tree.flatten(saved.params))
  model = models.create_model(
    settings['model.name'], num_classes, **_model_options(settings)
  )
  return weights.Loaded(
    model,
    saved.params,
    saved.state,
    class_names.of(num_classes, _class_names(settings)),
    settings['data.eval_preset'],
  )


def _model_options(settings: dict[str, Any]) -> dict[str, Any]:
  """Options of create_model in the settings of a run."""
  options = {
    key.removeprefix('model.'): value
    for key, value in settings.items()
    if key.startswith('model.') and key != 'model.name' and value is not None
  }
  sizes = {'train_size': 'data.image_size', 'test_size': 'data.eval_size'}
  for option, key in sizes.items():
    if settings[key]:
      options[option] = settings[key]
  # Recomputing blocks is for training, wherever it is set.
  return {**options, 'remat': False}


def _class_names(settings: dict[str, Any]) -> tuple[str, ...]:
  """Names of the classes that the run was trained on, if they can be read."""
  from nfnets.data import sources

  try:
    source = sources.load_source(
      settings['dataset'],
      settings['data.eval_split'],
      settings['data.data_dir'] or None,
    )
  except errors.UserError:
    return ()
  return source.class_names


def write(
  loaded: 'weights.Loaded',
  destination: pathlib.Path,
  layout: str,
  *,
  refit: bool = False,
) -> None:
  """Writes a network.

  Args:
    loaded: the network.
    destination: the file; replaced in one step.
    layout: a key of those that --help lists.
    refit: see `weights.save`.

  Raises:
    UserError: the layout cannot hold this network, or the file cannot be
      written.
  """
  from nfnets import inference, models, weights
  from nfnets.weights import files, tree

  if layout in ('folded', 'stablehlo'):
    model, params = models.for_inference(loaded.model, loaded.params)
    loaded = loaded._replace(model=model, params=params)
  if layout == 'stablehlo':
    with files.replacing(destination) as temporary:
      temporary.write_bytes(inference.export_program(loaded))
    return
  weights.save(
    destination,
    loaded.params,
    loaded.state,
    loaded.model.config.name,
    'nfnets' if layout == 'folded' else layout,
    class_names=loaded.class_names,
    eval_preset=loaded.eval_preset,
    refit=refit,
    **tree.options(loaded.model.config),
  )


if __name__ == '__main__':
  cli.run(main)
