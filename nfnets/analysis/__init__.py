"""What a network does: signals, operations."""
