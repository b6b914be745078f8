"""Ground truth of patches, pixel by pixel, and of tokens, character by character."""

import numpy as np


def covered_patches(mask: np.ndarray, patch_size: int, min_overlap: float = 1) -> np.ndarray:
    """Which patches (row by row) hold enough mask pixels: bool [height, width] -> bool [patches].

    ``min_overlap`` is a number of pixels, or below 1 their share in hundredths.
    """
    height, width = mask.shape
    covered = []
    for top in range(0, height, patch_size):
        for left in range(0, width, patch_size):
            pixels = [mask[top + y, left + x] for y in range(patch_size) for x in range(patch_size)]
            count = sum(bool(pixel) for pixel in pixels)
            hundredths = round(100 * min_overlap)
            covered.append(count >= min_overlap if min_overlap >= 1 else 100 * count >= hundredths * len(pixels))
    return np.array(covered, bool)


def pixels_of_patches(mask: np.ndarray, patch_size: int) -> list[int]:
    """Mask pixels of each patch, row by row, one pixel at a time."""
    height, width = mask.shape
    counts = [0] * ((height // patch_size) * (width // patch_size))
    for y, x in np.ndindex(height, width):
        counts[(y // patch_size) * (width // patch_size) + x // patch_size] += bool(mask[y, x])
    return counts


def positive_rows(truth: np.ndarray, chosen_rows: np.ndarray) -> list[int]:
    """|G_c ∩ chosen| per concept: bool [rows, concepts], bool [rows] -> ints."""
    return [int((truth[:, concept] & chosen_rows).sum()) for concept in range(truth.shape[1])]


def overlapping_tokens(tokens: list[tuple[int, int]], spans: list[tuple[int, int]]) -> list[bool]:
    """Which tokens [start, end) share a character with any span [start, end)."""
    covered = {character for start, end in spans for character in range(start, end)}
    return [any(character in covered for character in range(start, end)) for start, end in tokens]
