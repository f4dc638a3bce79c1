"""The effect of each part of the recipe on accuracy and speed."""
