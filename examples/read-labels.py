"""Reads soft labels with the stock safetensors library and numpy: the dense codecs, format of docs/label-format.md.

    python3 examples/read-labels.py runs/quickstart/prune
"""

import json
import pathlib
import sys

import numpy as np
from safetensors import safe_open


def logits_of(shard, codec, classes, rows):
    """Logits of a range of rows, [n, K]: float16 as stored, or float32 decoded from levels."""
    if codec == 'dense:f16':
        return shard.get_slice('label.logits')[rows]
    level = shard.get_slice('label.code')[rows]
    if codec == 'dense:int4':  # two to a byte, the first in the low four bits
        level = np.stack([level & 15, level >> 4], axis=2).reshape(len(level), -1)[:, :classes]
    low, step = np.hsplit(shard.get_slice('label.range')[rows].astype(np.float32), 2)
    return level.astype(np.float32) * step + low


def records(folder):
    """Yields (record id, logits [rows, K], index [rows] int32 or None) in rising order of ids."""
    folder = pathlib.Path(folder)
    labels = json.loads((folder / 'labels.json').read_text())
    if labels['format'] != 2 or labels['codec'] not in ('dense:f16', 'dense:int8', 'dense:int4'):
        raise SystemExit(f"expected format 2 and a dense codec, received {labels['format']} and {labels['codec']}")
    for entry in labels['shards']:
        with safe_open(folder / entry['file'], framework='numpy') as shard:
            ids, sizes = np.cumsum(shard.get_tensor('recordGap')), shard.get_tensor('recordRows')
            ends = np.cumsum(sizes)
            index = shard.get_slice('index') if labels['recipes'] == 'explicit' else None  # derived: from the seed
            for i, record in enumerate(ids):
                rows = slice(int(ends[i] - sizes[i]), int(ends[i]))
                logits = logits_of(shard, labels['codec'], labels['numClasses'], rows)
                yield int(record), logits, None if index is None else index[rows]


def main(folder):
    count = rows = 0
    entropy = 0.0
    for _, logits, _ in records(folder):
        z = logits.astype(np.float64)
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        entropy -= float((p * np.log(p + 1e-300)).sum())
        count, rows = count + 1, rows + len(z)
    print(f'{count} records, {rows} rows of {z.shape[1]} classes, mean entropy {entropy / rows:.4f} nats')


if __name__ == '__main__':
    main(*sys.argv[1:])
