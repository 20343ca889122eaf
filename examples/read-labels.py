"""Reads soft labels with the stock safetensors library and numpy: codec dense:f16, format of docs/label-format.md.

    python3 examples/read-labels.py runs/quickstart/prune
"""

import json
import pathlib
import sys

import numpy as np
from safetensors import safe_open


def records(folder):
    """Yields (record id, logits [rows, K] float16, index [rows] int32 or None) in rising order of ids."""
    folder = pathlib.Path(folder)
    labels = json.loads((folder / 'labels.json').read_text())
    if labels['format'] != 1 or labels['codec'] != 'dense:f16':
        raise SystemExit(f"expected format 1 and dense:f16, received {labels['format']} and {labels['codec']}")
    for entry in labels['shards']:
        with safe_open(folder / entry['file'], framework='numpy') as shard:
            ids, offset = shard.get_tensor('recordId'), shard.get_tensor('recordOffset')
            logits = shard.get_slice('label.logits')
            index = shard.get_slice('index') if labels['recipes'] == 'explicit' else None  # derived: from the seed
            for i, record in enumerate(ids):
                first, last = int(offset[i]), int(offset[i + 1])
                yield int(record), logits[first:last], None if index is None else index[first:last]


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
