"""The Recipe of one record of a store with `derived` Recipes, drawn again from docs/streams.md in plain Python:
python3 examples/derived-recipe.py LABELS IMAGES RECORD prints it as JSON, with the names and shapes of an explicit store."""

import json
import math
import sys

U32 = 0xFFFFFFFF


def philox(counter, key):
    """Philox4x32-10: four u32 words."""
    c, k = list(counter), list(key)
    for _ in range(10):
        high0, low0 = divmod(c[0] * 0xD2511F53, 1 << 32)
        high1, low1 = divmod(c[2] * 0xCD9E8D57, 1 << 32)
        c = [high1 ^ c[1] ^ k[0], low1, high0 ^ c[3] ^ k[1], low0]
        k = [(k[0] + 0x9E3779B9) & U32, (k[1] + 0xBB67AE85) & U32]
    return c


class Stream:
    def __init__(self, seed, purpose, obj, view):
        self.key, self.counter = (seed & U32, seed >> 32), (obj, view, purpose)

    def block(self, number):
        return philox((*self.counter, number), self.key)

    def word(self, i):
        return self.block(i >> 2)[i & 3]


def bounded(word, n):
    return word * n >> 32


def permutation(stream, n):
    out = list(range(n))
    for i in range(n - 1, 0, -1):
        j = bounded(stream.word(i), i + 1)
        out[i], out[j] = out[j], out[i]
    return out


ASPECT = [
    math.floor(65536 * math.exp(math.log(3 / 4) + (i + 0.5) / 256 * (math.log(4 / 3) - math.log(3 / 4))) + 0.5)
    for i in range(256)
]


def rsqrt(x):
    return (math.isqrt(4 * x) + 1) // 2


def crop(stream, size, scale):
    """Of a square image: top, left, height, width."""
    least, most = (math.floor(s * 2**32) for s in scale)
    for attempt in range(10):
        area, ratio, row, column = stream.block(attempt)
        a = size * size * ((least << 32) + (most - least) * area) >> 64
        r = ASPECT[ratio >> 24]
        w, h = rsqrt(a * r >> 16), rsqrt((a << 16) // r)
        if 0 < w <= size and 0 < h <= size:
            return [bounded(row, size - h + 1), bounded(column, size - w + 1), h, w]
    return [0, 0, size, size]


def cutmix_box(stream, p):
    share, x, y, _ = stream.block(0)
    half = math.isqrt(p * p * (2**32 - share) >> 32) // 2
    x, y = bounded(x, p), bounded(y, p)
    left, right, top, bottom = max(0, x - half), min(p, x + half), max(0, y - half), min(p, y + half)
    return [top, left, bottom - top, right - left]


def cutout(stream, p, share):
    half = math.floor(math.floor(share * p + 0.5) / 2)
    x, y, color, _ = stream.block(0)
    x, y = bounded(x, p), bounded(y, p)
    left, right, top, bottom = max(0, x - half), min(p - 1, x + half), max(0, y - half), min(p - 1, y + half)
    return [top, left, bottom - top + 1, right - left + 1], [color >> 24, color >> 16 & 255, color >> 8 & 255]


def beta_cdf(x, a):
    """Of Beta(a, a) at x <= 1/2, by its power series."""
    term, total, n = 1 / a, 1 / a, 0
    while term > total * 1e-17:
        n += 1
        term *= (n - a) / n * x * (a + n - 1) / (a + n)
        total += term
    return x**a * total / math.exp(2 * math.lgamma(a) - math.lgamma(2 * a))


def mixup_lambda(word):
    """The entry of the table of Beta(0.8, 0.8) that a word chooses, by bisection; the table is symmetric."""
    i = word >> 20
    p = (min(i, 4095 - i) + 0.5) / 4096
    low, high = 0.0, 0.5
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if beta_cdf(middle, 0.8) < p else (low, middle)
    entry = math.floor(2**24 * low + 0.5)
    return (entry if i < 2048 else 2**24 - entry) / 2**24


def recipe(index, size, record):
    """index: labels.json; size: of the square stored images, px."""
    plan, augment, seed, p = index['plan'], index['augment'], index['seed'], index['inputSize']
    batch, images = plan['batch'], plan['images']
    per_epoch = images // batch if plan['dropLast'] else -(-images // batch)
    epoch, number = divmod(record, per_epoch)
    own = permutation(Stream(seed, 1, 0, epoch), images)[number * batch : (number + 1) * batch]
    rows = len(own)
    out = {'index': own, 'mixIndex': list(range(rows)), 'mixBox': [[0] * 4] * rows, 'lambda': [1.0] * rows}
    scale = augment['cropScale']
    out['crop'] = [crop(Stream(seed, 2, i, epoch), size, scale) if scale else [0, 0, size, size] for i in own]
    out['flip'] = [Stream(seed, 3, i, epoch).word(0) >> 31 if augment['flip'] else 0 for i in own]
    side = augment['cutout']
    squares = [cutout(Stream(seed, 8, i, epoch), p, side) if side else ([0] * 4, [0] * 3) for i in own]
    out['cutout'], out['cutoutColor'] = [box for box, _ in squares], [color for _, color in squares]
    out['mixKind'] = [['none', 'cutmix', 'mixup'].index(augment['mix'])] * rows
    if augment['mix'] != 'none':
        out['mixIndex'] = permutation(Stream(seed, 5, number, epoch), rows)
    if augment['mix'] == 'cutmix':
        box = cutmix_box(Stream(seed, 4, number, epoch), p)
        out['mixBox'], out['lambda'] = [box] * rows, [1 - box[2] * box[3] / p**2] * rows
    if augment['mix'] == 'mixup':
        out['lambda'] = [mixup_lambda(Stream(seed, 9, number, epoch).word(0))] * rows
    return out


if __name__ == '__main__':
    labels, images, record = sys.argv[1:4]
    with open(f'{labels}/labels.json') as file:
        index = json.load(file)
    with open(f'{images}/set.json') as file:
        size = json.load(file)['size']
    if index['recipes'] != 'derived' or index['streamVersion'] != 1:
        sys.exit('expected derived Recipes of streams of version 1: explicit ones are tensors of the shards')
    print(json.dumps(recipe(index, size, int(record))))
