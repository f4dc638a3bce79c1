"""The fraction of units that AGC clips, by the kind of layer."""

import pathlib

import jax
import jax.numpy as jnp
import optax

from nfnets.experiment import build, checks, inputs
from nfnets.optim import agc, masks
from nfnets.studies import results
from nfnets.training import checkpoint, checkpoint_files, devices
from nfnets.training import state as state_lib
from nfnets.training import step as step_lib
from nfnets.training import workdir as workdir_lib

_STEM = ('stem_conv', 'initial_conv')


def measure(run: results.Run, folder: pathlib.Path) -> dict[str, float]:
  """Measures the fraction of clipped units in the middle of a finished run.

  Args:
    run: a run with AGC.
    folder: its workdir, which still has the checkpoints.

  Returns:
    {'clipped/3x3': fraction of the units of this kind that the step after the
    middle checkpoint clips, ...} for the kinds in `agc_figure.KINDS` that the
    network has.
  """
  config = checks.from_changes(run.settings)
  saved = folder / workdir_lib.CHECKPOINTS
  steps = sorted(checkpoint_files.steps(saved))
  weights = checkpoint.read_weights(
    saved, steps[(len(steps) - 1) // 2], ema=False
  )
  source = inputs.load_source(config, 'train')
  model = build.make_model(config, source.num_classes)
  preprocess = inputs.make_preprocess(config, model)
  batches = inputs.train_batches(
    config, source, model, preprocess.images_per_example
  )
  probe = make_probe(config.optimizer.clipping, config.optimizer.clip_eps)
  # Does what a train step does, but measures instead of updating.
  step = step_lib.make_train_step(
    build.make_gradient(config, model, preprocess), probe, schedule=_no_rate
  )
  state = state_lib.from_params(weights.params, weights.state, probe, ema=False)
  state = state._replace(step=jnp.asarray(weights.step, jnp.int32))
  batch = devices.shard_batch(batches[weights.step])
  measured, _ = step(devices.replicate(state), batch)
  fractions = jax.device_get(measured.opt_state)
  return {f'clipped/{kind}': float(x) for kind, x in fractions.items()}


def _no_rate(step: jax.typing.ArrayLike) -> jax.Array:
  del step
  return jnp.zeros(())


def make_probe(clipping: float, eps: float) -> optax.GradientTransformation:
  """Creates a transformation that counts what AGC would clip.

  Args:
    clipping: see `agc.adaptive_grad_clip`.
    eps: see `agc.adaptive_grad_clip`.

  Returns:
    Its updates are 0; its state is {kind: fraction of units}, float32[].
  """

  def init_fn(params: optax.Params) -> dict[str, jax.Array]:
    return {kind: jnp.zeros(()) for kind in _present(params)}

  def update_fn(
    updates: optax.Updates,
    state: dict[str, jax.Array],
    params: optax.Params | None = None,
  ) -> tuple[optax.Updates, dict[str, jax.Array]]:
    if params is None:
      raise ValueError('the probe needs the parameters, got None')
    del state
    over: dict[str, list[jax.Array]] = {}
    for module, name, kind in _parameters(params):
      scale, *_ = agc.clip_scale(
        updates[module][name],
        params[module][name],
        jnp.float32(clipping),
        jnp.float32(eps),
      )
      over.setdefault(kind, []).append((scale < 1).ravel())
    fractions = {
      kind: jnp.mean(jnp.concatenate(units), dtype=jnp.float32)
      for kind, units in over.items()
    }
    return jax.tree.map(jnp.zeros_like, updates), fractions

  return optax.GradientTransformation(init_fn, update_fn)


def _present(params: optax.Params) -> list[str]:
  return sorted({kind for _, _, kind in _parameters(params)})


def _parameters(params: optax.Params) -> list[tuple[str, str, str]]:
  """Returns (module, name, kind) of the parameters that AGC clips."""
  clips = masks.clip_mask(params)
  return [
    (module, name, kind_of(module, name))
    for module, values in params.items()
    for name in values
    if clips[module][name]
  ]


def kind_of(module: str, name: str) -> str:
  """Returns the kind of a parameter, one of `agc_figure.KINDS`.

  Args:
    module: its Haiku module, such as 'NFNet/~/nf_block_3/~/conv1b'.
    name: its name there, such as 'w'.
  """
  layer = module.rpartition('/')[2]
  if 'squeeze_excite' in module or 'eca' in module:
    return 'attention'
  if name == 'skip_gain':
    return 'skip gains'
  if 'gain' in name or name == 'scale':
    return 'gains'
  if name != 'w':
    return 'biases'
  if layer.startswith(_STEM):
    return 'stem'
  return '3x3' if layer in ('conv1', 'conv1b') else '1x1'
