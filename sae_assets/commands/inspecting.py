"""``inspect`` looks at data sets and, where asked, at their models."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from sae_assets.catalog import load_catalog, match_name
from sae_assets.datasets import open_dataset
from sae_assets.datasets.inspection import inspect_dataset
from sae_assets.errors import DatasetError
from sae_assets.ops.device import memory_budget
from sae_assets.rows.inspection import inspect_model
from sae_assets.settings import load_settings, memory_budget_mb


def inspect(
    home: Path | None, catalog_file: Path | None, names: Sequence[str], *, files: bool, models: bool
) -> dict[str, dict[str, Any]]:
    """Return by data set what :func:`inspect_dataset` finds and, with ``models``, what :func:`inspect_model` does of
    each.

    Raises:
        CatalogError: a catalog with mistakes, or a name that is not in it.
    """
    catalog = load_catalog(load_settings(home, catalog_file).catalog)
    reports = {}
    for name in [match_name(name, catalog.datasets, "data set") for name in names]:
        entry = catalog.datasets[name]
        report = inspect_dataset(entry, files=files)
        if models:
            reader, budget = None, memory_budget(memory_budget_mb(), "cpu")
            with suppress(DatasetError, OSError):  # named among the data set's problems
                reader = open_dataset(entry)
            report["models"] = {
                model: inspect_model(catalog.models[model], entry, reader, budget) for model in entry.models
            }
            report["sound"] = report["sound"] and all(each["sound"] for each in report["models"].values())
        reports[name] = report
    return reports
