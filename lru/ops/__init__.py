"""Functions of arrays: the recurrence and its helpers, without Flax modules."""
