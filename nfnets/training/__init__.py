"""The only place that meets devices and disk."""
