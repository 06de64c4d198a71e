"""Functions on arrays rather than Flax modules: the linear recurrence, initializers and helpers."""
