"""Cutout and mixup draws from the rules of docs/streams.md, in exact integers and 40-digit decimals: the second
implementation that src/cutout.ts and src/mixup.ts are compared with. Standard library alone; prints one JSON document.

    python3 test/reference/recipe_streams.py
"""

import json
from decimal import ROUND_HALF_EVEN, Decimal, getcontext

M32 = 0xFFFFFFFF


def words(seed, purpose, obj, view, block=0):
    c = [obj, view, purpose, block]
    k = [seed & M32, seed >> 32]
    for _ in range(10):
        p, q = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(q >> 32) ^ c[1] ^ k[0], q & M32, (p >> 32) ^ c[3] ^ k[1], p & M32]
        k = [(k[0] + 0x9E3779B9) & M32, (k[1] + 0xBB67AE85) & M32]
    return c


def cutout(seed, purpose, image, view, size, share):
    """Pillow's rectangle, corners inclusive, as CutoutPIL asks for it; then the pixels of the image it covers."""
    wx, wy, color, _ = words(seed, purpose, image, view)
    x, y = wx * size >> 32, wy * size >> 32
    side = int(share * size + 0.5)
    clip = lambda v: min(max(v, 0), size)
    x1, y1, x2, y2 = clip(x - side // 2), clip(y - side // 2), clip(x + side // 2), clip(y + side // 2)
    rows = [r for r in range(size) if y1 <= r <= y2]
    columns = [c for c in range(size) if x1 <= c <= x2]
    return [rows[0], columns[0], len(rows), len(columns)], [color >> 24, color >> 16 & 255, color >> 8 & 255]


def mixup_table():
    """round(2^24 F^-1((i + 1/2) / 4096)) for F of Beta(0.8, 0.8)."""
    getcontext().prec = 40
    a = Decimal('0.8')
    terms, c = [], Decimal(1)
    for n in range(140):  # x^a sum (1-a)_n / (n! (a+n)) x^n, x <= 1/2: 2^-140 remains
        terms.append(c / (a + n))
        c *= (1 - a + n) / (n + 1)

    def beta(x):
        total, power = Decimal(0), Decimal(1)
        for term in terms:
            total += term * power
            power *= x
        return x**a * total

    whole = 2 * beta(Decimal('0.5'))
    table = [0] * 4096
    low = Decimal(0)
    for i in range(2048):
        target = Decimal(2 * i + 1) / 8192 * whole
        x = low + Decimal(1) / 6000  # near the root; Newton's method from either side
        while True:
            step = (beta(x) - target) * (x * (1 - x)) ** (1 - a)
            x = max(x - step, low / 2 + Decimal('1e-9'))
            if abs(step) < Decimal('1e-15'):
                break
        table[i] = int((x * 2**24).quantize(Decimal(1), rounding=ROUND_HALF_EVEN))
        table[4095 - i] = 2**24 - table[i]
        low = x
    return table


if __name__ == '__main__':
    TABLE = mixup_table()
    CUTOUTS = [(42, 8, 0, 0, 224, 0.5), (42, 8, 1, 0, 224, 0.5), (42, 8, 0, 1, 224, 0.5), (42, 8, 123, 7, 64, 0.25),
               (42, 8, 5, 2, 9, 1.0), (42, 28, 0, 0, 224, 0.5), (0xFEDCBA9876543210, 8, 4000000000, 299, 64, 0.5)]
    MIXUPS = [(42, 0, 0), (42, 1, 0), (42, 0, 1), (0xFEDCBA9876543210, 77, 299)]
    print(json.dumps({
        'table': TABLE,
        'cutouts': [[str(seed), *rest, *cutout(seed, *rest)] for seed, *rest in CUTOUTS],
        'mixups': [[str(seed), batch, epoch, TABLE[words(seed, 9, batch, epoch)[0] >> 20]] for seed, batch, epoch in MIXUPS],
    }))
