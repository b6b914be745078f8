"""Rows that were computed elsewhere, read from files."""
