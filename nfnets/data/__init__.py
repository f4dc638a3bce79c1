"""From encoded images to batches, on the host, without JAX."""
