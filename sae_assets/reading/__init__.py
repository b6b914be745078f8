"""Reading a finished home from Python: tables, sparse activations, and what a unit fires on and where.

``sae_assets.open`` begins; nothing here writes. Neither Dagster nor torch is needed where files are Parquet.
"""

from sae_assets.reading.marked import HeatMap, MarkedText
from sae_assets.reading.project import DatasetFigures, ModelFigures, Project, open_project
from sae_assets.reading.results import Results
from sae_assets.reading.tables import Table
from sae_assets.reading.unit import TopExample, Unit

__all__ = [
    "DatasetFigures",
    "HeatMap",
    "MarkedText",
    "ModelFigures",
    "Project",
    "Results",
    "Table",
    "TopExample",
    "Unit",
    "open_project",
]
