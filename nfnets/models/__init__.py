"""Models: images to logits and endpoints."""

from nfnets.models.registry import (
  Model,
  create_model,
  folded,
  for_inference,
  list_models,
)

__all__ = ['Model', 'create_model', 'folded', 'for_inference', 'list_models']
