"""Exports of trained networks to other frameworks and runtimes."""
