"""Weights from files and to files."""

from nfnets.models.folding import fold
from nfnets.weights.loading import Loaded, load, load_model
from nfnets.weights.saving import save

__all__ = ['Loaded', 'fold', 'load', 'load_model', 'save']
