"""Files and the terminal."""
