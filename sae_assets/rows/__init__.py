"""Rows of examples: images and texts to the residual stream at the catalog's hook point, and the image's geometry.

Which rows an example has, and how masks follow the image's transform, is decided here; what an SAE makes of the rows
is not (``saes``, ``ops``).
"""
