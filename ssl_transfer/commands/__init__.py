"""The verbs beside LightningCLI's: one file, one typed function each."""
