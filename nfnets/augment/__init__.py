"""Batch to augmented batch: pure JAX, inside the train step."""
