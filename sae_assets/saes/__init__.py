"""SAE checkpoints: finding them, reading their formats, and building the encoders and decoders of ``ops`` from them.

``files`` finds and hashes, ``opening`` reads, by one module per format; importing this package loads no torch. Formats
are read without pickle (``weights_only=True``, safetensors, npz without objects). The numerics of encoding live in
``ops``.
"""

from sae_assets.saes.average_l0 import named_l0
from sae_assets.saes.files import locate_sae, sae_hash
from sae_assets.saes.opening import Checkpoint, open_decoder, open_sae

__all__ = ["Checkpoint", "locate_sae", "named_l0", "open_decoder", "open_sae", "sae_hash"]
