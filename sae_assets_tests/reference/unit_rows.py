"""Each unit's entries of a dense matrix, by going through its column."""

import numpy as np


def entries_of(activations: np.ndarray, example_of_row: np.ndarray, unit: int) -> list[tuple[int, int, float]]:
    """Example, position in it and value of each row on which the unit fires."""
    entries = []
    for row, value in enumerate(activations[:, unit]):
        position = row - int((example_of_row < example_of_row[row]).sum())
        if value > 0:
            entries.append((int(example_of_row[row]), position, float(value)))
    return entries
