"""Training: from a config to a record.

`loop.train_and_evaluate` runs an `Experiment`: the data set, the task and the model that `build`
makes from a config, and the `optimizer`. `step` has the loss and the update of one step. What a run
writes is in `run_files`, `checkpoint`, `writers` and `record`; `recovery` compares it with the
newest checkpoint.
"""
