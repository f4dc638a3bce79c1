"""Gradients to updates, on any pytree."""
