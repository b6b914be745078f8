"""One module per format of SAE checkpoints: its files, keys and shapes, read without pickle, and ``FORMAT``.

A module here is a format of the catalog by being here; the table of them is ``catalog.registry.formats``. Heads of
these modules import no torch: what a format's files are called is asked for where nothing is opened.
"""
