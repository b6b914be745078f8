"""SAE checkpoints: finding the file, reading its format, and building the encoder of ``ops`` from it.

Formats are read without pickle (``weights_only=True``, safetensors, npz without objects). The numerics of encoding
live in ``ops.sparse_activations``.
"""
