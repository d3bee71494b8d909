"""Stream a model block by block: activation statistics and folds."""
