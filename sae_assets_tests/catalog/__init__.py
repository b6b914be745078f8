"""Tests of the catalog: packaged entries, the merge with the user's file, and messages about mistakes."""
