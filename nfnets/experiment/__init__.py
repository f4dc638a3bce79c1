"""Settings to a trained network."""
