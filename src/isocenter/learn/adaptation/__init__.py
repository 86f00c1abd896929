"""From a labelled set to a task: fingerprint, plan, folds, training, held-out figures (`isocenter adapt --data`)."""
