"""What the configs of a paper share: models, optimizers, variants."""
