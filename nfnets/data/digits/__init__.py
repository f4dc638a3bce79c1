"""TFDS builder of scikit-learn's handwritten digits."""
