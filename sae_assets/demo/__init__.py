"""The packaged small data and checkpoints, and files that arrive after the first run."""
