"""A page as a table of one cell, for those who look at tables; its file is HTML (``storage.html``)."""

import pyarrow as pa

from sae_assets.artifacts.report import Report
from sae_assets.storage.columns import Scalars

COLUMNS = {"html": "the page, which its file is in full"}


def encode(artifact: Report) -> tuple[pa.Table, Scalars]:
    return pa.table({"html": pa.array([artifact.html], pa.string())}), {}


def decode(table: pa.Table, scalars: Scalars) -> Report:
    return Report(table["html"].to_pylist()[0])
