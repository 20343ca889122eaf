# What both sides of the golden tests share by definition, not by code: the Philox fill of inputs and weights
# (test/util/tensors.ts is the TypeScript twin) and the writer of golden files with their provenance.
# Counter = (object, view, purpose 20, block), key = (seed low, seed high), word i of a stream = word i & 3 of block
# i >> 2. View 0 fills weights, view 1 float inputs, view 2 bytes. Source: Salmon et al., SC'11 (Philox4x32-10).
import datetime
import hashlib
import importlib.metadata
import json
import math
import pathlib

import numpy as np
import PIL
import torch
from safetensors.numpy import save_file

# torchvision's meta registrations ask for these two names; with them its Python code runs without its compiled part.
LIBRARY = torch.library.Library('torchvision', 'DEF')
LIBRARY.define('nms(Tensor a, Tensor b, float c) -> Tensor')
LIBRARY.define('qnms(Tensor a, Tensor b, float c) -> Tensor')

HERE = pathlib.Path(__file__).resolve().parent
SCRIPTS = ['make_golden.py', 'golden_util.py', 'golden_ops.py', 'golden_models.py', 'golden_loops.py',
           'golden_streams.py', 'golden_systems.py']
SEED = 20240925
PURPOSE = 20
MASK = np.uint64(0xFFFFFFFF)


def philox(c0, c1, c2, c3, k0, k1):
    """Philox4x32-10 of arrays of counters; returns [4, n] uint64 holding 32-bit words."""
    c0, c1, c2, c3 = np.broadcast_arrays(*(np.asarray(c, np.uint64) for c in (c0, c1, c2, c3)))
    for _ in range(10):
        p0 = np.uint64(0xD2511F53) * c0
        p1 = np.uint64(0xCD9E8D57) * c2
        c0, c1, c2, c3 = (p1 >> np.uint64(32)) ^ c1 ^ np.uint64(k0), p1 & MASK, (p0 >> np.uint64(32)) ^ c3 ^ np.uint64(k1), p0 & MASK
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return np.stack([c0, c1, c2, c3])


def words(count, obj, view, seed=SEED):
    blocks = (count + 3) // 4
    block = np.arange(blocks, dtype=np.uint64)
    return philox(obj, view, PURPOSE, block, seed & 0xFFFFFFFF, seed >> 32).T.reshape(-1)[:count]


def uniforms(count, obj, view, seed=SEED):
    """Multiples of 2^-24 in [0, 1): exact in float32. [count] float64."""
    return (words(count, obj, view, seed) >> np.uint64(8)).astype(np.float64) * 2.0**-24


def symmetric(shape, obj, scale=1.0):
    """Uniform in [-scale, scale), view 1, rounded to float32. Returned as float64."""
    values = (2 * uniforms(math.prod(shape), obj, 1) - 1) * scale
    return values.astype(np.float32).astype(np.float64).reshape(shape)


def positive(shape, obj):
    """Uniform in [0.5, 1.5), view 1, rounded to float32. Returned as float64."""
    return (0.5 + uniforms(math.prod(shape), obj, 1)).astype(np.float32).astype(np.float64).reshape(shape)


def image_bytes(shape, obj):
    return (words(math.prod(shape), obj, 2) >> np.uint64(24)).astype(np.uint8).reshape(shape)


def fill_tensor(name, shape, number, seed=SEED):
    """Golden weight of state-dict tensor `number` (num_batches_tracked not counted), float32."""
    u = uniforms(math.prod(shape), number, 0, seed)
    if name.endswith('running_var') or (len(shape) == 1 and name.endswith('.weight')):
        values = 0.5 + u
    elif len(shape) == 1:
        values = 0.1 * (2 * u - 1)
    else:
        values = (2 * u - 1) * math.sqrt(2 / math.prod(shape[1:]))
    return values.astype(np.float32).reshape(shape)


def check_philox():
    """Known answers of the Random123 distribution."""
    ones = 0xFFFFFFFF
    cases = [
        ((0, 0, 0, 0), (0, 0), ['6627e8d5', 'e169c58d', 'bc57ac4c', '9b00dbd8']),
        ((ones,) * 4, (ones,) * 2, ['408f276d', '41c83b0e', 'a20bc7c6', '6d5451fd']),
        ((0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xA4093822, 0x299F31D0), ['d16cfe09', '94fdcceb', '5001e420', '24126ea1']),
    ]
    for counter, key, answer in cases:
        got = [f'{int(w):08x}' for w in philox(*([c] for c in counter), *key).reshape(-1)]
        assert got == answer, (got, answer)


def check_pillow():
    """Pillow 13 runs the vertical pass first where that is cheaper (its PR 9549) and so rounds differently. The order of
    every earlier version, horizontal first, is what all published runs used and what the native resize does."""
    assert int(PIL.__version__.split('.')[0]) < 13, f'Pillow {PIL.__version__}: make the goldens with Pillow < 13'


def save(name, tensors, extra=None):
    """Writes <name>.safetensors; everything that is not a tensor is JSON under the one metadata key `json`."""
    digest = hashlib.sha256(b''.join((HERE / s).read_bytes() for s in SCRIPTS)).hexdigest()
    provenance = {
        'versions': {p: importlib.metadata.version(p) for p in ('torch', 'torchvision', 'numpy')} | {'pillow': PIL.__version__},
        'seed': SEED,
        'date': datetime.date.today().isoformat(),
        'scripts': SCRIPTS,
        'scriptSha256': digest,
    }
    path = HERE / f'{name}.safetensors'
    text = json.dumps({'provenance': provenance, **(extra or {})}, separators=(',', ':'))
    save_file({k: np.ascontiguousarray(v) for k, v in tensors.items()}, path, metadata={'json': text})
    path.chmod(0o644)
    size = path.stat().st_size
    assert size < 200_000, f'{path.name} has {size} bytes'
    print(f'{path.name}: {len(tensors)} tensors, {size} bytes')


def close(name, got, wanted, limit):
    """Largest difference relative to the largest wanted value; the goldens are only trusted where float32 reaches it."""
    got, wanted = np.asarray(got, np.float64), np.asarray(wanted, np.float64)
    error = np.abs(got - wanted).max() / np.abs(wanted).max()
    print(f'  {name}: float32 against float64 {error:.1e}')
    assert error < limit, (name, error)
