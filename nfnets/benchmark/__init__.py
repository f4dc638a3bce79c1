"""Benchmarks networks and the input pipeline (`python -m nfnets.benchmark`)."""
