"""Augments batches inside the train step, in pure JAX."""
