"""The stages and what follows from them: settings, provenance, staleness, planning. Nothing here knows Dagster."""
