"""Runs: what `fit`, `test` and `predict` do around Lightning's trainer, for the command line and for notebooks alike."""
