"""Sensors, schedules, backfills and alerts work by themselves once somebody switches them on."""
