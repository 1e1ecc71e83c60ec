"""Did pretraining help? A grid of methods, label budgets and seeds, measured cell by cell into a folder."""
