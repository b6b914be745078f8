"""The pipeline as a whole, through Dagster."""
