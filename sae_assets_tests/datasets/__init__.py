"""Tests of data set readers and chunk planning."""
