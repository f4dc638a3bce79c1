"""Experiments: from settings to a trained and evaluated network."""
