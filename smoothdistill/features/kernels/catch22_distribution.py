"""catch22 features of the values: where most of them lie, and when the extreme ones come."""

from __future__ import annotations

import numpy as np
from numba import njit

from smoothdistill.features.kernels.catch22_symbols import count_code
from smoothdistill.features.kernels.lanes import (
    LANES,
    floor,
    load,
    maximum,
    minimum,
    select,
    splat,
    store,
)
from smoothdistill.features.kernels.order import sort_lanes

__all__ = ["histogram_mode", "outlier_timing"]

INCREMENT = 0.01
"""Distance of the thresholds of `outlier_timing`, in standard deviations."""


@njit(error_model="numpy", nogil=True, cache=True)
def histogram_mode(z, num_samples, lows, highs, num_bins, codes, result):  # type: ignore[no-untyped-def]
    """Centre of the fullest of equally wide bins, or the mean of the centres of the fullest."""
    one = splat(1.0)
    for number in range(z.shape[0]):
        series = z[number]
        lowest, highest = load(lows, number * LANES), load(highs, number * LANES)
        step = (highest - lowest) / num_bins
        step = select(step > 0.0, step, one)
        last = splat(num_bins - 1.0)
        for place in range(0, num_samples * LANES, LANES):
            store(codes, place, minimum(floor((load(series, place) - lowest) / step), last))
        most, centres, num_fullest = splat(0.0), splat(0.0), one
        for code in range(num_bins):
            count = count_code(codes, num_samples, code)
            centre = ((step * float(code) + lowest) + (step * (code + 1.0) + lowest)) * 0.5
            is_as_full = count == most
            centres = select(is_as_full, centres + centre, centres)
            num_fullest = select(is_as_full, num_fullest + one, num_fullest)
            is_fuller = count > most
            centres = select(is_fuller, centre, centres)
            num_fullest = select(is_fuller, one, num_fullest)
            most = maximum(count, most)
        store(result, number * LANES, centres / num_fullest)


@njit(error_model="numpy", nogil=True, cache=True)
def outlier_timing(z, num_samples, sign, ordered, links, tallies, medians, result):  # type: ignore[no-untyped-def]
    """Median, over rising thresholds, of the median time of the samples above, from -1 to 1.

    Thresholds rise in steps of 0.01 while more than 2 % of the samples above 0, and one, are above.
    Samples leave a linked list in the order of their thresholds, and the list's median moves by one
    at most: thresholds cost nothing, and a sample costs the same at any window length.

    `ordered` is scratch of `sorting_size` vectors, infinite from `num_samples` on; `tallies` is 0
    before and after; `links` and `medians` are scratch.
    """
    earlier, later = links[0], links[1]  # places 1 to num_samples, between two that always stay
    size = ordered.size // LANES  # a power of two
    num_bits = 0
    while 1 << num_bits < size:
        num_bits += 1
    for number in range(z.shape[0]):
        series = z[number]
        for sample in range(num_samples):
            value = load(series, sample * LANES) * sign
            level = floor(value * (1.0 / INCREMENT))  # may be one off either way
            level = select((level + 1.0) * INCREMENT <= value, level + 1.0, level)
            level = select(level * INCREMENT > value, level - 1.0, level)
            key = level * size + float(sample)  # whole, and sorts by threshold
            store(ordered, sample * LANES, select(value >= 0.0, key, splat(np.inf)))
        sort_lanes(ordered, num_samples)
        for lane in range(LANES):
            count, previous = 0, 0
            for place in range(1, num_samples + 1):
                earlier[place] = previous
                later[previous] = place  # of the wrong sample, until the right one comes
                is_above = sign * series[(place - 1) * LANES + lane] >= 0.0
                previous = place if is_above else previous
                count += is_above
            result[number * LANES + lane] = 0.0
            if count == 0:
                continue
            later[previous] = num_samples + 1
            earlier[num_samples + 1] = previous
            middle = previous
            for _ in range(count // 2):
                middle = earlier[middle]
            least = 0.02 * count + 1.0
            last_level, num_medians, num_records, first = -1, 0, 0, 2 * num_samples
            for rank in range(count):
                key = int(ordered[rank * LANES + lane])
                level, place = key >> num_bits, (key & (size - 1)) + 1
                before, after = earlier[middle], later[middle]
                if level > last_level:
                    is_over = count - rank <= least
                    if is_over and last_level >= 0:
                        break
                    twice = middle + (middle if (count - rank) % 2 == 1 else after)
                    weight = 1 if is_over else level - last_level
                    tallies[twice] += weight
                    num_medians += weight
                    medians[num_records] = twice
                    num_records += 1
                    first = min(first, twice)
                    last_level = level
                    if is_over:
                        break
                if (count - rank) % 2 == 1:
                    middle = before if place >= middle else middle
                else:
                    middle = after if place <= middle else middle
                before, after = earlier[place], later[place]
                later[before] = after
                earlier[after] = before
            passed, twice, total = 0, first - 1, 0
            for rank in ((num_medians - 1) // 2, num_medians // 2):
                while passed <= rank:
                    twice += 1
                    passed += tallies[twice]
                total += twice
            for record in range(num_records):
                tallies[medians[record]] = 0
            if ordered[(count - 1) * LANES + lane] >= size:  # the greatest is not below 0.01
                result[number * LANES + lane] = total / (2.0 * num_samples) - 1.0
