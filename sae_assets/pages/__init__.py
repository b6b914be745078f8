"""Pages for people: one HTML file that needs nothing else, of figures that stand in tables.

What is shown is decided by who calls; nothing here reads a store or computes a figure. No Dagster, no torch.
"""
