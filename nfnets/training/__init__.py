"""Training: the state, the step, the loop and what they write to disk."""
