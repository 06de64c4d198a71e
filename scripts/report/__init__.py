"""The pages and pictures of results/, made from the records there."""
