"""Bytes to batches, on the host. No JAX here."""
