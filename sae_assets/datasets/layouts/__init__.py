"""One module per layout of data sets: its reader, and ``LAYOUT``, which says to the catalog what it is.

A module here is a layout of the catalog by being here; the table of them is ``catalog.registry.layouts``.
"""
