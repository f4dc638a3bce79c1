"""Images to logits and endpoints."""

from nfnets.models.registry import Model, create_model, list_models

__all__ = ['Model', 'create_model', 'list_models']
