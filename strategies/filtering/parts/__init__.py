"""What several filters share."""
