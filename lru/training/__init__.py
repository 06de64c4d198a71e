"""Training: optimiser, checkpoints, metrics, output files, and the training loop."""
