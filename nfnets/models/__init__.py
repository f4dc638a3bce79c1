"""Images to logits and endpoints."""
