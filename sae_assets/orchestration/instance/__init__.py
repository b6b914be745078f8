"""The Dagster instance of a home folder, and the processes that make its runs."""
