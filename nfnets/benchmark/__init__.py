"""What `python -m nfnets.benchmark` measures and how."""
