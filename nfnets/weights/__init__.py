"""Reading and writing weights files."""

from nfnets.weights.loading import Loaded, load, load_for, load_model
from nfnets.weights.saving import save

__all__ = ['Loaded', 'load', 'load_for', 'load_model', 'save']
