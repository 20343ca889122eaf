// What Python makes of an exported store: torch.load takes every file, and a re-statement of the published validator's
// loader (methods 4.5, 6.1: shares times size, Pillow's crop and resize, flip, CutMix replayed on the batch, KL of the
// stored logits) sees the pixels and finds the loss that this package does. It reads the images from an exported folder.

import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { expect, test, vi } from 'vitest';
import { openFkd } from '../../src/interchange/fkd-import.ts';
import { arrayOf, tensor } from '../../src/tensor.ts';
import { codingSpec, decode } from '../util/codes.ts';
import { contentOf, exporting, madeImages, pixelsOf, relabelTo } from '../util/exchange.ts';
import { scratch } from '../util/hostile.ts';
import { ops } from '../util/native.ts';
import { pythonWith, runPython, withoutPython } from '../util/python.ts';
import { tiny } from '../util/tiny.ts';

vi.setConfig({ testTimeout: 180_000, hookTimeout: 60_000 });

const python = pythonWith('torch', 'numpy', 'PIL.Image');
const note = withoutPython(python, 'torch, numpy and Pillow');
const relabel = { batch: 4, epochs: 6, dropLast: false };
const config = tiny({ dataset: { inputSize: 12 }, relabel });
const { root, images } = madeImages(config);

const VALIDATOR = `
import hashlib, json, os, sys
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

fkd, folder, size, T = sys.argv[1], sys.argv[2], int(sys.argv[3]), 20
samples = [os.path.join(folder, c, f) for c in sorted(os.listdir(folder)) if os.path.isdir(os.path.join(folder, c))
           for f in sorted(os.listdir(os.path.join(folder, c)))]
pictures = [Image.open(path).convert('L') for path in samples]
orders = {int(k): v for k, v in json.load(open(os.path.join(fkd, 'sampler_indices_epoch.json'))).items()}
epochs = [d for d in os.listdir(fkd) if d.startswith('epoch_')]
assert sorted(orders) == list(range(len(epochs)))
number = lambda name: int(name.split('_')[1].split('.')[0])
first = sorted(os.listdir(os.path.join(fkd, 'epoch_0')), key=number)
load = lambda e, b: torch.load(os.path.join(fkd, f'epoch_{e}', f'batch_{b}.tar'), weights_only=True)
B = load(0, 0)[1].size()[0]
last = load(0, len(first) - 1)[1].size()[0]
assert B * (len(first) - 1) + last == len(samples)

pixels, logits, losses = hashlib.sha256(), hashlib.sha256(), []
for epoch in range(len(epochs)):
    for batch in range(len(os.listdir(os.path.join(fkd, f'epoch_{epoch}')))):
        coords, flip, partner, lam, box, soft = load(epoch, batch)
        indices = orders[epoch][batch * B:(batch + 1) * B]
        assert coords.dtype == torch.float32 and coords.shape == (len(indices), 4)
        assert flip.dtype == torch.bool and soft.dtype == torch.float16
        made = []
        for row, index in enumerate(indices):
            picture = pictures[index]
            i, h = coords[row][0].item() * picture.size[1], coords[row][2].item() * picture.size[1]
            j, w = coords[row][1].item() * picture.size[0], coords[row][3].item() * picture.size[0]
            picture = picture.crop((j, i, j + w, i + h)).resize((size, size), Image.BILINEAR)
            if flip[row] == True:
                picture = picture.transpose(Image.FLIP_LEFT_RIGHT)
            made.append(np.array(picture))
        view = torch.from_numpy(np.stack(made))[:, None]
        if box is not None:
            assert type(lam) is float and all(type(n) is int for n in box)
            x1, y1, x2, y2 = box
            view[:, :, x1:x2, y1:y2] = view[partner, :, x1:x2, y1:y2]
        pixels.update(view.contiguous().numpy().tobytes())
        logits.update(soft.numpy().tobytes())
        student = view.double().mean((1, 2, 3))[:, None] * torch.arange(1, soft.shape[1] + 1) / 64
        losses.append(F.kl_div(F.log_softmax(student / T, 1), F.softmax(soft.double() / T, 1), reduction='batchmean').item())
print(json.dumps([pixels.hexdigest(), logits.hexdigest(), losses, B]))
`;

test.skipIf(python === null).each<[string, object]>([
  ['CutMix', {}],
  ['no mixing', { mix: 'none' }],
])(`%s: the published validator's loader sees our pixels and our logits${note}`, async (name, change) => {
  const labels = await relabelTo(
    root(),
    name,
    tiny({ dataset: { inputSize: 12 }, relabel: { ...relabel, ...change } }),
  );
  const [fkd, folder] = [join(scratch(), 'fkd'), join(scratch(), 'images')];
  await exporting({ format: 'fkd', labels, images: images(), out: fkd });
  await exporting({ format: 'folder', labels: null, images: images(), out: folder });
  const [seen, read, losses, batch] = JSON.parse(runPython(python!, VALIDATOR, [fkd, folder, '12'])) as [
    string,
    string,
    number[],
    number,
  ];
  const { recipes, logits } = await contentOf(labels, images());
  const { store } = await pixelsOf(images());
  const pixels = ops().renderBatch(store, recipes, 12);
  store.dispose();
  const hash = (bytes: Uint8Array): string => createHash('sha256').update(bytes).digest('hex');
  expect([batch, read]).toEqual([4, hash(logits.data)]);
  expect(seen).toBe(hash(pixels.data));
  // the same student, batch by batch: its logit of class k is the mean pixel times (k + 1) / 64
  const offset = arrayOf(recipes.offset, 'I32');
  const spec = codingSpec('dense:f16', logits.shape[0]!, 3);
  const teacher = arrayOf(await decode(spec, { tensors: { logits }, blobs: null }), 'F32');
  const area = 12 * 12;
  for (const [record, loss] of losses.entries()) {
    const [from, to] = [offset[record]!, offset[record + 1]!];
    const student = Float32Array.from({ length: 3 * (to - from) }, (_, at) => {
      const row = from + Math.floor(at / 3);
      const sum = pixels.data.subarray(row * area, (row + 1) * area).reduce((total, value) => total + value, 0);
      return ((sum / area) * ((at % 3) + 1)) / 64;
    });
    const rows = [to - from, 3];
    const own = ops().softKl(tensor('F32', rows, student), tensor('F32', rows, teacher.slice(3 * from, 3 * to)), 20, 1);
    expect(Math.abs(arrayOf(own.loss, 'F32')[0]! - loss)).toBeLessThan(1e-6 + 1e-4 * loss);
  }
  expect(losses).toHaveLength(12);
});

test.skipIf(python === null)(
  `a store that Python writes from torch's own sampler has the orders we take it to have${note}`,
  async () => {
    const dir = join(scratch(), 'fkd');
    const script = `
import json, os, sys, torch
N, B, size = 11, 4, 8
generator = torch.Generator()
generator.manual_seed(42)
sampler = torch.utils.data.RandomSampler(range(N), generator=generator)
loader = torch.utils.data.DataLoader(range(N), batch_size=B, sampler=sampler)
seen = []
for epoch in range(4):
    os.makedirs(os.path.join(sys.argv[1], f'epoch_{epoch}'))
    for number, index in enumerate(loader):
        rows = len(index)
        coords = torch.tensor([[0., 0., 1., 1.]]).repeat(rows, 1)
        parts = [coords, torch.zeros(rows, dtype=torch.bool), None, None, None, torch.zeros(rows, 2).half()]
        torch.save(parts, os.path.join(sys.argv[1], f'epoch_{epoch}', f'batch_{number}.tar'))
        seen.append(index.tolist())
print(json.dumps(seen))`;
    const seen = JSON.parse(runPython(python!, script, [dir])) as number[][];
    const store = await openFkd(dir, { images: 11, size: 8, inputSize: 8, numClasses: 2 });
    const read: number[][] = [];
    for (let record = 0; record < store.records; record++)
      read.push([...arrayOf((await store.read(record)).recipes.index, 'I32')]);
    expect(read).toEqual(seen);
    expect(store).toMatchObject({ batchesPerEpoch: 3, dropLast: false, epochs: 4 });
  },
);
