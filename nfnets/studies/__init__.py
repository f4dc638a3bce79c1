"""The papers' claims in miniature: one command for each."""
