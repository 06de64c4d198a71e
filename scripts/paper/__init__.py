"""The numbers of the two papers."""
