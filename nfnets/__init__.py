"""Normalizer-Free Networks in JAX and Haiku."""

__version__ = '0.1.0'
