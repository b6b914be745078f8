"""The assets: every stage of every data set, built from the stage's own object. No stage is named here.

``factory`` says what the assets are (keys, partitions, inputs, checks); ``passes`` is what one run of them does.
"""
