"""Trained networks in use: from a source of weights to predictions."""
