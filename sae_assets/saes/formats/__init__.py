"""One module per format of SAE checkpoints: its files, keys and shapes, read without pickle."""
