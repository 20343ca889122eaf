# The random streams of docs/streams.md in exact Python integers: an implementation of its own, so that a golden made
# with it checks the draws of src/draw.ts and native/core/philox.h too. Purposes 16 to 19: crop, flip, roll, noise of
# synthesis. Invariant: the page is the definition; check_streams() holds the code to the page's vectors.
import math

import numpy as np

from golden_util import philox

CROP, FLIP, ROLL, NOISE = 16, 17, 18, 19
ASPECTS = [round(65536 * math.exp(math.log(3 / 4) + (i + 0.5) / 256 * (math.log(4 / 3) - math.log(3 / 4)))) for i in range(256)]


def block(seed, purpose, obj, view, index):
    """Four u32 of one block, as Python integers."""
    counters = ([c] for c in (obj, view, purpose, index))
    return [int(w) for w in philox(*counters, seed & 0xFFFFFFFF, seed >> 32).reshape(-1)]


def bounded(word, n):
    return word * n >> 32


def rounded_root(n):
    return (math.isqrt(4 * n) + 1) // 2


def draw_crop(seed, purpose, obj, view, height, width, scale):
    """(top, left, height, width) of the section Crop."""
    low, high = (math.floor(s * 2**32) for s in scale)
    for attempt in range(10):
        a, r, i, j = block(seed, purpose, obj, view, attempt)
        area = height * width * (low * 2**32 + (high - low) * a) >> 64
        ratio = ASPECTS[r >> 24]
        w, h = rounded_root(area * ratio >> 16), rounded_root((area << 16) // ratio)
        if 0 < w <= width and 0 < h <= height:
            return [bounded(i, height - h + 1), bounded(j, width - w + 1), h, w]
    h = (8 * width + 3) // 6 if 4 * width < 3 * height else height
    w = (8 * height + 3) // 6 if 3 * width > 4 * height else width
    return [(height - h) // 2, (width - w) // 2, h, w]


def draw_flip(seed, purpose, obj, view):
    return block(seed, purpose, obj, view, 0)[0] >> 31


def draw_roll(seed, purpose, obj, view, low, high):
    """(rows, columns), both in low .. high."""
    return [low + bounded(word, high - low + 1) for word in block(seed, purpose, obj, view, 0)[:2]]


def normals(seed, purpose, obj, view, count):
    """Box-Muller in double precision, rounded once to float32. [count] float32."""
    index = np.arange((count + 3) // 4, dtype=np.uint64)
    w = philox(obj, view, purpose, index, seed & 0xFFFFFFFF, seed >> 32).astype(np.float64)
    lanes = []
    for first in (0, 2):
        radius, angle = np.sqrt(-2 * np.log((w[first] + 0.5) / 2**32)), 2 * np.pi * (w[first + 1] / 2**32)
        lanes += [radius * np.cos(angle), radius * np.sin(angle)]
    return np.stack(lanes, 1).reshape(-1)[:count].astype(np.float32)


def check_streams():
    """Vectors of docs/streams.md, seed 42 unless a line says otherwise."""
    assert (ASPECTS[0], ASPECTS[127], ASPECTS[128], ASPECTS[255], sum(ASPECTS)) == (49207, 65462, 65610, 87283, 17009595)
    crops = [
        (42, 2, 0, 0, 224, 224, (0.08, 1), [32, 51, 149, 151]), (42, 2, 123, 7, 224, 224, (0.08, 1), [8, 38, 214, 185]),
        (42, 2, 5, 3, 3000, 4000, (0.08, 1), [1427, 437, 1422, 1873]), (42, 2, 7, 4, 100, 300, (0.08, 1), [1, 135, 65, 70]),
        (42, 2, 9, 1, 500, 375, (0.25, 1), [112, 11, 315, 349]), (42, 2, 0, 0, 224, 224, (0.99, 1), [0, 0, 224, 224]),
        (0xFEDCBA9876543210, 2, 4000000000, 299, 224, 224, (0.08, 1), [100, 64, 78, 80]),
        (42, CROP, 7, 0, 64, 64, (0.08, 1), [33, 25, 24, 30]), (42, CROP, 12, 1999, 64, 64, (0.08, 1), [2, 0, 52, 55]),
    ]
    for *args, wanted in crops:
        assert draw_crop(*args) == wanted, (args, draw_crop(*args))
    assert [draw_flip(42, FLIP, 7, 0), draw_flip(42, FLIP, 7, 1), draw_flip(42, FLIP, 12, 1999)] == [1, 1, 0]
    assert [draw_roll(42, ROLL, 7, t, -4, 4) for t in range(4)] == [[-4, -2], [0, 0], [-1, 1], [0, 3]]
    wanted = [-0.6516810655593872, -0.5549739003181458, 0.09149617701768875, 0.38925376534461975, -0.4527464509010315]
    assert np.abs(normals(42, NOISE, 3, 1, 5) - np.array(wanted)).max() < 1e-7
