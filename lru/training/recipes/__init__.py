"""The models, optimizers and variants that a paper's configs share."""
