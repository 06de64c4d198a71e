"""Functions of arrays: the recurrence and what goes with it; nothing here knows of Flax modules."""
