"""Optimizers: gradients to updates, on any pytree."""
