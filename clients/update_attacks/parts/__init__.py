"""What several update attacks share."""
