// Cutouts in label stores of ImageNet-21K-P: boxes of pixels here, centres and sides there.

import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { fromFkd, toFkd } from '../../src/interchange/fkd.ts';
import { cutoutBoxes, cutoutShares } from '../../src/interchange/fkd-cutout.ts';
import type { Recipes } from '../../src/native.ts';
import { cutoutBox } from '../../src/recipe.ts';
import { arrayOf, tensor } from '../../src/tensor.ts';
import { refusal, scratch } from '../util/hostile.ts';
import { pythonWith, runPython, withoutPython } from '../util/python.ts';

const rows = 3;
/** A batch of three whole images with some boxes and neither flips nor mixing. */
const cut = (boxes: readonly (readonly number[])[]): Recipes => ({
  offset: tensor('I32', [2], Int32Array.of(0, rows)),
  index: tensor('I32', [rows], Int32Array.of(5, 0, 9)),
  crop: tensor('I32', [rows, 4], Int32Array.of(0, 0, 224, 224, 223, 1, 1, 3, 17, 100, 65, 124)),
  flip: tensor('U8', [rows], new Uint8Array(rows)),
  cutout: tensor(
    'I32',
    [rows, 4],
    Int32Array.from(Array.from({ length: rows }, (_, i) => boxes[i % boxes.length]!).flat()),
  ),
  cutoutColor: tensor(
    'U8',
    [rows, 3],
    Uint8Array.from({ length: 3 * rows }, (_, i) => 29 * i),
  ),
  mixKind: tensor('U8', [rows], new Uint8Array(rows)),
  mixIndex: tensor('I32', [rows], Int32Array.of(0, 1, 2)),
  mixBox: tensor('I32', [rows, 4], new Int32Array(4 * rows)),
  lambda: tensor('F32', [rows], new Float32Array(rows).fill(1)),
});
const logits = tensor('F16', [rows, 1], new Uint16Array(rows));
const facts = { size: 224, inputSize: 224 };
const round = (recipes: Recipes): Recipes =>
  fromFkd(toFkd(recipes, logits, facts, 'here'), arrayOf(recipes.index, 'I32'), { ...facts, path: 'x' });

test('every cutout of the published draw comes back', () => {
  for (let centre = 0; centre < 224; centre++) {
    const boxes = [cutoutBox(centre, 223 - centre, 224, 0.5), cutoutBox(centre, centre, 224, 0.31), [centre, 0, 1, 2]];
    expect(round(cut(boxes))).toEqual(cut(boxes));
  }
});

test('their parameters of a cutout become its box: an inclusive corner, sides of 112 of 224 px', () => {
  const shares = [100 / 224, 5 / 224, 0.5, 0.5, 1, 2, 3];
  const { cutout, cutoutColor } = cutoutBoxes(tensor('F32', [1, 7], Float32Array.from(shares)), 224, 'x');
  expect([...arrayOf(cutout, 'I32')]).toEqual([44, 0, 113, 62]);
  expect([...arrayOf(cutoutColor, 'U8')]).toEqual([1, 2, 3]);
});

describe('what the layout cannot say is refused', () => {
  test.each<[string, Recipes]>([
    ['a cutout that lies around no pixel', cut([[5, 5, 4, 3]])],
    [
      'cutouts in some images only',
      cut([
        [5, 5, 3, 3],
        [0, 0, 0, 0],
      ]),
    ],
    ['flips beside cutouts', { ...cut([[5, 5, 3, 3]]), flip: tensor('U8', [rows], Uint8Array.of(0, 1, 0)) }],
  ])('%s', async (_, recipes) => {
    expect((await refusal(() => round(recipes))).code).toBe('E_MISMATCH');
  });
});

const drawing = pythonWith('torch', 'PIL.ImageDraw');
test.skipIf(drawing === null)(
  `the published replay of an exported cutout fills the pixels of the box${withoutPython(drawing, 'torch and Pillow')}`,
  () => {
    const script = `
import json, sys
import numpy as np
import torch
from PIL import Image, ImageDraw

for size, box, params in json.load(open(sys.argv[1])):
    picture = Image.new('RGB', (size, size))
    h = w = size
    yc, xc, hc, wc, r, g, b = torch.tensor(params, dtype=torch.float32) * torch.FloatTensor([h, w, h, w, 1, 1, 1])
    y1, x1 = np.clip(yc - hc // 2, 0, h), np.clip(xc - wc // 2, 0, w)
    y2, x2 = np.clip(yc + hc // 2, 0, h), np.clip(xc + wc // 2, 0, w)
    ImageDraw.Draw(picture).rectangle([x1, y1, x2, y2], fill=(int(r), int(g), int(b)))
    wanted = np.zeros((size, size, 3), np.uint8)
    wanted[box[0]:box[0] + box[2], box[1]:box[1] + box[3]] = [int(r), int(g), int(b)]
    assert (np.array(picture) == wanted).all(), (size, box, params)
print('equal')`;
    const cases: unknown[] = [];
    for (const size of [12, 63, 64, 224])
      for (let centre = 0; centre < size; centre++) {
        const boxes = [0.5, 0.3].map((share) => cutoutBox(centre, size - 1 - centre, size, share));
        const shares = cutoutShares(cut(boxes), size, 'here');
        const values = [...arrayOf(shares, 'F32')];
        for (const [i, box] of boxes.entries()) cases.push([size, box, values.slice(7 * i, 7 * i + 7)]);
      }
    const path = join(scratch(), 'cases.json');
    writeFileSync(path, JSON.stringify(cases));
    expect(runPython(drawing!, script, [path])).toBe('equal\n');
  },
);
