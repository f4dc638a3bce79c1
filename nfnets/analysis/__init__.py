"""Analyzes networks: signal propagation and multiply-accumulate counts."""
