// relabel: the stage contract with derived and with stored Recipes, and what it notes of its teacher.

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { arrayOf } from '../../src/tensor.ts';
import { halfValue } from '../reference/half.ts';
import { contentOf, madeImages, relabelTo } from '../util/exchange.ts';
import { testStage } from '../util/stage-suite.ts';
import { tiny } from '../util/tiny.ts';

for (const recipes of ['derived', 'explicit'])
  testStage({
    stage: 'relabel',
    after: ['squeeze', 'synthesize'],
    seeded: true,
    cancelAt: [
      { label: /soft labels/, share: 0.1 },
      { label: /soft labels/, share: 0.3 },
    ],
    config: { relabel: { epochs: 100, recipes } },
  });

describe('teacherAgreement in run.json', () => {
  const { root, images } = madeImages(tiny());

  test.each([
    [3, 'records of equal length'],
    [4, 'a short last record in every epoch'],
    [50, 'one record shorter than a batch'],
  ])('is the share of rows whose class the teacher names: batches of %i, %s', async (batch) => {
    const config = tiny({ relabel: { batch, epochs: 5, dropLast: false, mix: 'none', cropScale: [0.6, 1] } });
    const labels = await relabelTo(root(), `batch-${batch}`, config);
    const { recipes, logits } = await contentOf(labels, images());
    const [rows, K] = logits.shape as [number, number];
    expect(rows).toBe(5 * 6);
    const z = [...arrayOf(logits, 'F16')].map(halfValue);
    const index = arrayOf(recipes.index, 'I32');
    const named = [...index].filter((image, row) => {
      const own = z.slice(row * K, (row + 1) * K);
      return own.indexOf(Math.max(...own)) === Math.floor(image / 2); // two images of every class
    });
    expect(named.length).toBeGreaterThan(rows / 2);
    const { teacherAgreement } = JSON.parse(readFileSync(join(labels, 'run.json'), 'utf8'));
    expect(teacherAgreement).toBeCloseTo(named.length / rows, 12);
  });
});
