"""Predictions on a split to numbers, tables, figures and a page."""
