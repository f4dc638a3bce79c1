"""The training program with a fault built in.

python -m tests.faults.broken FAULT ARGUMENTS...

FAULT is one of:
  kill-save:K        kill -9 just before checkpoint K is renamed to its name
  signal-step:N:K    signal N after step K
  signal-eval:N      signal N in the first evaluation
  signal-save:N:K    signal N, twice, while checkpoint K is saved
  drift:K            one device's parameters change before checkpoint K
  nan-steps:J:K      the losses of the steps J to K are not finite
"""

import os
import pathlib
import signal
import sys

import jax
import jax.numpy as jnp
import numpy as np

from nfnets import cli
from nfnets.experiment import __main__ as entry
from nfnets.training import checkpoint, gradient, loop
from nfnets.training import evaluate as evaluate_lib


def before(owner, name, hook):
  """Calls `hook` with the arguments of each call of a function first."""
  original = getattr(owner, name)

  def hooked(*args, **kwargs):
    changed = hook(*args)
    return original(*(changed or args), **kwargs)

  setattr(owner, name, hooked)


def send(number, times=1):
  for _ in range(times):
    os.kill(os.getpid(), number)


def kill_save(step):
  def hook(source, *_):
    if pathlib.Path(source).name.startswith(f'{step}.orbax-checkpoint-tmp'):
      send(signal.SIGKILL)

  for owner, name in (
    (os, 'rename'),
    (os, 'replace'),
    (pathlib.Path, 'rename'),
  ):
    before(owner, name, hook)


def signal_step(number, step):
  def hook(_, pushed, *__):
    if pushed == step:
      send(number)

  before(loop._Watch, 'push', hook)


def signal_eval(number):
  before(evaluate_lib, 'evaluate_all', lambda *_: send(number))


def signal_save(number, step):
  def hook(_, saved, *__):
    if saved == step:
      send(number, times=2)

  before(checkpoint.Checkpointer, 'save', hook)


def drift(step):
  def hook(saver, state, saved, metrics):
    if saved != step:
      return None
    return saver, state._replace(params=drifted(state.params)), saved, metrics

  before(loop._Saver, 'save', hook)


def drifted(params):
  """Flips the lowest bit of one number on the last device."""
  leaves, structure = jax.tree.flatten(params)
  shards = [np.array(s.data) for s in leaves[0].addressable_shards]
  shards[-1].view(np.uint32).flat[0] ^= 1
  devices = [s.device for s in leaves[0].addressable_shards]
  leaves[0] = jax.make_array_from_single_device_arrays(
    leaves[0].shape,
    leaves[0].sharding,
    [jax.device_put(x, d) for x, d in zip(shards, devices, strict=True)],
  )
  return jax.tree.unflatten(structure, leaves)


def nan_steps(first, last):
  make_gradient = gradient.make_gradient

  def make_poisoned(*args, **kwargs):
    gradient_fn = make_gradient(*args, **kwargs)

    def poisoned(params, state, step, batch):
      result = gradient_fn(params, state, step, batch)
      loss = result.metrics['loss']
      bad = (first <= step + 1) & (step + 1 <= last)
      metrics = result.metrics | {'loss': jnp.where(bad, jnp.nan, loss)}
      return result._replace(metrics=metrics)

    return poisoned

  gradient.make_gradient = make_poisoned


FAULTS = {
  'kill-save': kill_save,
  'signal-step': signal_step,
  'signal-eval': signal_eval,
  'signal-save': signal_save,
  'drift': drift,
  'nan-steps': nan_steps,
}


def main():
  name, *numbers = sys.argv.pop(1).split(':')
  FAULTS[name](*map(int, numbers))
  return entry.main()


if __name__ == '__main__':
  cli.run(main)
