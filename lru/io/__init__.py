"""File and terminal utilities."""
