"""Rows that were computed elsewhere come from embedding files: outside contents of the stages that read them."""

from typing import Any

from sae_assets.pipeline.stage import Sources, Target
from sae_assets.rows.precomputed.rows import hash_rows


def embedding_files(target: Target, sources: Sources, _options: Any) -> dict[str, str]:
    """Hash of the embedding files that hold a chunk's rows; empty where a transformer makes them.

    Raises:
        DatasetError: embedding files that are missing or do not fit the data set.
    """
    files = {str(kind): entry for kind, entry in target.dataset.embeddings.get(target.model.name, {}).items()}
    if target.token_kind not in files:
        return {}
    reader, ids = sources.reader(target.dataset), sources.manifest(target).example_ids
    return {"embeddings": hash_rows(files[target.token_kind], target.token_kind, reader, ids)}
