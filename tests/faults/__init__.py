"""Faults of files, machines, processes and people, through the command line.

`docs/reliability.md` lists each fault with its test.
"""
