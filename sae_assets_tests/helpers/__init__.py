"""What several test modules share and no test module is: homes, small data sets, settings of Dagster for tests."""
