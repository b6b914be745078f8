"""What happens by itself once somebody switches it on: sensors, schedules, backfills, alerts."""
