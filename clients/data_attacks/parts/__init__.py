"""What several data attacks share."""
