"""Stored activations say how they were made, so that new input can be encoded in the same way."""

from typing import TYPE_CHECKING

from sae_assets.errors import MismatchError, MissingChunksError
from sae_assets.pipeline.recipes import is_imported
from sae_assets.pipeline.stages.sparse_activations import encoder_hash
from sae_assets.reading.encoding import EncodeSettings
from sae_assets.rows.source import precomputed_kinds

if TYPE_CHECKING:
    from sae_assets.reading.results import Results


def stored_settings(results: "Results") -> EncodeSettings:
    """Return the settings of the chunks that were made, which were all made by the model that the catalog names now.

    Raises:
        MissingChunksError: none was made.
        MismatchError: rows that are embeddings made elsewhere or were imported, or were made by another model.
    """
    if results.token_kind in precomputed_kinds(results.entry, results.model_entry):
        raise MismatchError(f"{results}: its rows are embeddings made elsewhere; nothing here makes new ones.")
    addresses = [results.address("sparse_activations", key) for key in results.chunks]
    provenances = [results.store.header(each).provenance for each in addresses if results.store.find(each) is not None]
    if not provenances:
        address = results.address("sparse_activations")
        raise MissingChunksError(f"{address} has not been made. Run: {address.making}")
    if any(is_imported(each) for each in provenances):
        raise MismatchError(f"{results}: its activations were imported; nothing says how new input would be encoded.")
    config = dict(provenances[0].config)
    identity = encoder_hash(results.entry, results.model_entry, results.token_kind, config)
    if any(each.identity.get("encoder") != identity for each in provenances):
        raise MismatchError(
            f"{results}: its activations were made by another transformer, SAE or with other settings than the "
            f"catalog and its files say now. Materialize them again, or name the catalog that they were made with."
        )
    names = ("k_stored", "precision", "forward_batch", "stored_values")  # the last one only where it is not the default
    return EncodeSettings(**{name: config[name] for name in names if name in config}, white=results.entry.white)
