"""The results of the two papers."""
