"""Training: optimiser, checkpoints, metrics, what is written, and the loop that joins them."""
