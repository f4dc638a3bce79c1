"""Arrays to arrays: the layers of normalizer-free networks."""
