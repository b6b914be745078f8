"""One module per stage, each with ``build(graph)``; the factory puts them together for every data set and token kind.

Asset modules never import each other: edges are Dagster's, by key. What is computed lives in ``ops``.
"""
