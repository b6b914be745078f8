"""Loops over scores of examples: the largest values that they are, and what thresholds detect.

Each gives what the torch code beside its call gives, bit for bit.
"""

from typing import no_type_check

import numpy as np

from sae_assets.ops.jit import loop
from sae_assets.ops.segments import BITS, LARGEST

LAST, ABOVE = np.int64(LARGEST), np.int64(np.iinfo(np.int64).max)
ONE = np.uint64(1)
FINE = 8  # places of a table of scores for each of them: with fewer more is left to compare, with more caches hold less


@loop
@no_type_check
def gather_largest(example_offsets, row_offsets, unit_ids, bits, tag_of_example, keys, tags, counts):
    """Fill ``keys`` (unit, largest value descending) and ``tags`` of examples that have one; count them by split and
    unit. Returns how many."""
    slot = np.full(counts.shape[1], -1, np.int64)  # where the score of a unit stands, in the example or one before
    keys[:] = ABOVE
    filled = np.int64(0)
    for example in range(len(tag_of_example)):
        tag, begin = tag_of_example[example], filled
        if tag < 0:
            continue
        for entry in range(row_offsets[example_offsets[example]], row_offsets[example_offsets[example + 1]]):
            unit = np.int64(unit_ids[entry])
            key = unit << BITS | LAST - np.int64(bits[entry])
            place = slot[np.uint64(unit)]
            fresh = place < begin  # which a processor guesses badly, so that both do the same
            place = filled if fresh else place
            slot[np.uint64(unit)] = place
            keys[np.uint64(place)] = min(keys[np.uint64(place)], key)
            filled += np.int64(fresh)
        for place in range(np.uint64(begin), np.uint64(filled)):
            tags[place] = tag
            counts[tag & 1, np.uint64(keys[place] >> BITS)] += 1
    return filled


@loop
@no_type_check
def count_detected(scores, truths, thresholds, true, false):
    """Fill [splits, concepts, units, fractions] with true and false positives at thresholds (null: none).

    A table says for the first bits of a threshold how many scores are surely above it, and few are left to compare.
    Both splits come together, as to fetch thresholds, which do not lie side by side, takes the longest.

    Args:
        scores: of each split keys, starts and examples.
        truths: of each split [examples, at least the concepts], of a type that counts the examples.
    """
    n_splits, n_concepts, n_units, n_fractions = true.shape
    width = truths[0].shape[1]
    concepts, fractions = np.uint64(n_concepts), np.uint64(n_fractions)
    longest = np.int64(0)
    for split in range(n_splits):
        starts = scores[split][1]
        for unit in range(n_units):
            longest = max(longest, starts[unit + 1] - starts[unit])
    score = np.empty(longest + 1, np.float64)
    bits = score.view(np.int64)
    positive = np.zeros((longest + 1, width), truths[0].dtype)  # among the first scores, of each concept
    above = np.empty(FINE * longest + 2, np.uint32)
    threshold = np.empty(n_concepts * n_fractions, np.float64)
    wanted, cell = threshold.view(np.int64), np.empty(len(threshold), np.int64)
    for unit in range(n_units):
        for concept in range(concepts):
            for fraction in range(fractions):
                threshold[concept * fractions + fraction] = thresholds[concept, unit, fraction]
        for split in range(n_splits):
            keys, starts, example = scores[split]
            truth = truths[split]
            start, n = np.uint64(starts[unit]), np.uint64(starts[unit + 1] - starts[unit])
            if n == 0:
                true[split, :, unit], false[split, :, unit] = 0, 0
                continue
            for place in range(n):
                score[place] = np.int32(LAST - (keys[start + place] & LAST)).view(np.float32)
                row, last, now = truth[example[start + place]], positive[place], positive[place + ONE]
                for concept in range(width):
                    now[concept] = last[concept] + row[concept]
            score[n] = -np.inf
            least = bits[n - ONE]
            shift = 0
            while (bits[0] - least >> shift) >= FINE * n:
                shift += 1
            n_places = (bits[0] - least >> shift) + 1
            above[: n_places + 1] = 0
            for place in range(n):
                above[np.uint64(bits[place] - least >> shift)] += np.uint32(1)
            total = np.uint32(0)
            for place in range(n_places, -1, -1):
                total += above[np.uint64(place)]
                above[np.uint64(place)] = total
            for place in range(len(cell)):
                surely = min(max((wanted[place] - least >> shift) + 1, 0), n_places)
                cell[place] = surely if threshold[place] == threshold[place] else n_places  # NaN has either sign
            place = np.uint64(0)
            for concept in range(concepts):
                for fraction in range(fractions):
                    detected = np.uint64(above[np.uint64(cell[place])])
                    detected += np.uint64(score[detected] >= threshold[place])  # often one more; guesses cost more
                    while score[detected] >= threshold[place]:
                        detected += ONE
                    hits = np.int32(positive[detected, concept])
                    true[split, concept, unit, fraction] = hits
                    false[split, concept, unit, fraction] = np.int32(detected) - hits
                    place += ONE
