"""The pages and pictures of results/, made of the records there."""
