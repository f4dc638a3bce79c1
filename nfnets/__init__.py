"""Normalizer-Free Networks in JAX and Haiku.

Importing this package is instant: each name below is loaded on first use.

  create_model, list_models   networks by name, see `nfnets.models`
  load                        a trained network, see `nfnets.inference`
  adaptive_grad_clip          an optax transformation, see `nfnets.optim.agc`
"""

import importlib
from typing import Any

__version__ = '0.1.0'

__all__ = [
  'adaptive_grad_clip',
  'create_model',
  'list_models',
  'load',
]

_HOMES = {
  'adaptive_grad_clip': 'nfnets.optim.agc',
  'create_model': 'nfnets.models',
  'list_models': 'nfnets.models',
  'load': 'nfnets.inference.sources',
}


def __getattr__(name: str) -> Any:
  if name not in _HOMES:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
  return sorted([*globals(), *__all__])
