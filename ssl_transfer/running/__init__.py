"""Runs: what `fit`, `test` and `predict` do around Lightning's trainer, under the command line and notebooks."""
