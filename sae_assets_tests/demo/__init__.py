"""Tests of the packaged data and checkpoints, and of the generator that writes the text."""
