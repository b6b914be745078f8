"""Everything that imports Dagster: assets, automation, the instance of a home, and runs."""
