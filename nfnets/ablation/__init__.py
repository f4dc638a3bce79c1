"""What each part of the recipe does to accuracy and speed."""
