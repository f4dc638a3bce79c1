"""Models: images to logits and endpoints.

The names are loaded on first use: `python -m nfnets.models` imports this
package before it can report an error.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
  from nfnets.models.registry import (
    Model,
    create_model,
    folded,
    for_inference,
    frozen,
    list_models,
  )

__all__ = [
  'Model',
  'create_model',
  'folded',
  'for_inference',
  'frozen',
  'list_models',
]


def __getattr__(name: str) -> Any:
  if name not in __all__:
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
  from nfnets.models import registry

  return getattr(registry, name)
