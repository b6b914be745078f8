"""Outlines of COCO's instances, polygons and run lengths: what is wrong with them, where they lie, and their pixels.

Which image and which concept they are of is the layout's business.
"""

import math
from collections.abc import Sequence
from typing import Any

STRAY = 2  # pixels that an outline may go out of its image
APART = 1.5  # pixels between ends of an outline and of its box, which is rounded and counts the last pixel or not
LITTLE = 0.5  # intersection over union of an outline's box and its annotation's, below which they show different things
MANY_RUNS = 8  # below which a mask may be compact in both orders
COMPACT = 3  # times as long a border as in the other order says that the order is wrong
FARTHEST = 1e6  # pixels; coordinates beyond would overflow the rasteriser's integers


def shape_problem(shape: Any, height: int, width: int) -> str | None:
    """Say what keeps a segmentation from being rasterised, since the C code behind it checks nothing."""
    if isinstance(shape, dict):
        counts, size = shape.get("counts"), shape.get("size")
        if size != [height, width]:
            return f"run lengths are for size {size!r}, the image is {[height, width]} (height, width)"
        if isinstance(counts, list):
            whole = all(isinstance(run, int) and run >= 0 for run in counts)
            return None if whole and sum(counts) == height * width else "run lengths do not sum to the image's pixels"
        if isinstance(counts, str) and counts.isascii():
            whole = sum(decode_runs(counts) or [-1]) == height * width
            return None if whole else "run lengths do not sum to the image's pixels"
        return "`counts` must be a list of run lengths or COCO's compressed string"
    if not isinstance(shape, list):
        return f"`segmentation` must be polygons or run lengths, found {type(shape).__name__}"
    for polygon in shape:
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            return "a polygon needs x and y of three points or more"
        numbers = [value for value in polygon if isinstance(value, (int, float)) and not isinstance(value, bool)]
        if len(numbers) < len(polygon) or not all(math.isfinite(v) and abs(v) < FARTHEST for v in numbers):
            return "a polygon holds something else than coordinates"
        (left, right), (top, bottom) = _extent(polygon)
        if right < 0 or left > width or bottom < 0 or top > height:
            return f"a polygon lies outside of its image of {width}x{height} pixels: is it for one of another size?"
    return None


def _extent(polygon: Sequence[float]) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return least and largest x, and least and largest y."""
    across, down = polygon[::2], polygon[1::2]
    return (min(across), max(across)), (min(down), max(down))


def leaves(polygon: Sequence[float], height: int, width: int) -> bool:
    """Return whether a polygon goes further out of its image than a drawn outline does by chance."""
    (left, right), (top, bottom) = _extent(polygon)
    return left < -STRAY or top < -STRAY or right > width + STRAY or bottom > height + STRAY


def leaves_box(shape: Any, box: Any, height: int) -> bool:
    """Return whether an outline ends elsewhere than the box that stands beside it: one of them is another instance's,
    or cut.

    Args:
        shape: sound polygons or run lengths; box: left, top, width and height, or anything else that says nothing.
    """
    both = _both(shape, box, height)
    return both is not None and not _agree(*both)


def far_from_box(shape: Any, box: Any, height: int) -> bool:
    """Return whether an outline and its box have little in common, or agree once x and y are exchanged: one of them is
    in another order, size or unit. A box that names right and bottom in place of width and height is not far.
    """
    both = _both(shape, box, height)
    if both is None or _agree(*both):
        return False
    (left, top, right, bottom), stated_box = both
    exchanged = _agree((top, left, bottom, right), stated_box)
    return exchanged or max(_overlap(both[0], corners) for corners in (stated_box, tuple(box))) < LITTLE


def _agree(own: Sequence[float], stated: Sequence[float]) -> bool:
    return all(abs(one - other) <= APART for one, other in zip(own, stated, strict=True))  # a box may hold NaN


def _both(
    shape: Any, box: Any, height: int
) -> tuple[tuple[float, float, float, float], tuple[float, float, float, float]] | None:
    """Left, top, right and bottom of the outline and of the box; None where one says nothing."""
    plain = isinstance(box, list) and len(box) == 4 and all(type(value) in (int, float) for value in box)
    extent = _pixels_of(shape, height) if isinstance(shape, dict) else _corners_of(shape)
    if not plain or extent is None:
        return None
    left, top, width, tall = box
    return extent, (left, top, left + width, top + tall)


def _overlap(one: Sequence[float], other: Sequence[float]) -> float:
    """Return intersection over union of two boxes; 0 of one that has no area, or holds NaN."""
    sides = [max(0.0, min(one[i + 2], other[i + 2]) - max(one[i], other[i])) for i in (0, 1)]
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, other)]
    inner, outer = sides[0] * sides[1], sum(areas) - sides[0] * sides[1]
    return inner / outer if outer > 0 and min(areas) > 0 else 0.0


def borders(shape: Any, height: int, width: int) -> tuple[int, int]:
    """Return how long the border of a list of run lengths is, in pixels, read down the columns as COCO's are and read
    along the rows; 0 and 0 of anything else, and of few runs. Things have short borders, and long ones in the wrong
    order.
    """
    import numpy as np

    runs = shape.get("counts") if isinstance(shape, dict) else None
    if not isinstance(runs, list) or len(runs) <= MANY_RUNS or height == width:
        return 0, 0
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    by_order = []
    for sides in ((width, height), (height, width)):
        inside = flat.reshape(sides)
        by_order.append(int((inside[1:] != inside[:-1]).sum() + (inside[:, 1:] != inside[:, :-1]).sum()))
    return by_order[0], by_order[1]


def _corners_of(polygons: Sequence[Sequence[float]]) -> tuple[float, float, float, float] | None:
    """Left, top, right and bottom of all polygons; None where there are none."""
    if not polygons:
        return None
    across, down = zip(*map(_extent, polygons), strict=True)
    return (
        min(low for low, _ in across),
        min(low for low, _ in down),
        max(high for _, high in across),
        max(high for _, high in down),
    )


def _pixels_of(shape: Any, height: int) -> tuple[float, float, float, float] | None:
    """Left, top, right and bottom of the pixels inside run lengths, which go down the columns; None where none is."""
    counts = shape["counts"]
    runs = decode_runs(counts) if isinstance(counts, str) else counts
    columns, rows, position = [], [], 0
    for index, run in enumerate(runs or ()):
        if index % 2 and run:
            first, last = position, position + run - 1
            one = first // height == last // height
            columns += [first // height, last // height]
            rows += [first % height, last % height] if one else [0, height - 1]
        position += run
    return (min(columns), min(rows), max(columns) + 1, max(rows) + 1) if columns else None


def decode_runs(counts: str) -> list[int] | None:
    """Decode the run lengths of COCO's compressed string; None if the string is malformed.

    Each character holds five bits, least significant first; from the fourth run on, the numbers are differences to the
    last run but one.
    """
    runs: list[int] = []
    position = 0
    while position < len(counts):
        value, shift, continues = 0, 0, True
        while continues:
            if position >= len(counts) or shift > 30:
                return None
            code = ord(counts[position]) - 48
            if not 0 <= code < 64:
                return None
            value |= (code & 31) << shift
            continues, position, shift = bool(code & 32), position + 1, shift + 5
            if not continues and code & 16:
                value |= -1 << shift
        run = value + runs[-2] if len(runs) > 2 else value
        if run < 0:
            return None
        runs.append(run)
    return runs


def union(shapes: Sequence[Any], height: int, width: int) -> Any:
    """Return the union of the segmentations, bool [height, width]."""
    import numpy as np
    from pycocotools import mask as rasterise

    inside = np.zeros(height * width, dtype=bool)
    for shape in shapes:
        parts = rasterise.frPyObjects(shape, height, width) if isinstance(shape, list) else [shape]
        for counts in (part["counts"] for part in parts):
            text = counts.decode() if isinstance(counts, bytes) else counts
            runs: Any = decode_runs(text) if isinstance(text, str) else text
            inside |= np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return inside.reshape(width, height).T  # runs go down the columns
