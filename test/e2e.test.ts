// End to end on a dataset that the test draws: discs, squares and crosses of any colour, place and size, so that only the
// shape tells the class. Two synthetic images per class and pruned soft labels must teach a student clearly more than
// chance, and two runs must give the same artifacts.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { parseConfig } from '../src/config.ts';
import { encodeImage } from '../src/datasets/images.ts';
import { runPipeline } from '../src/run.ts';
import { put } from './datasets/writers.ts';
import { dice } from './util/hostile.ts';
import { idsOf, optionsOf } from './util/tiny.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 }); // whole runs, on a busy machine

const SIDE = 16;
const SHAPES: Readonly<Record<string, (x: number, y: number) => boolean>> = {
  disc: (x, y) => x * x + y * y <= 1,
  square: (x, y) => Math.max(Math.abs(x), Math.abs(y)) <= 0.9 && Math.max(Math.abs(x), Math.abs(y)) > 0.45,
  cross: (x, y) => Math.min(Math.abs(x), Math.abs(y)) <= 0.3 && Math.max(Math.abs(x), Math.abs(y)) <= 1,
};
const CHANCE = 1 / 3;
const MARGIN = 0.25;

/** One RGB image: a shape of a light colour on a dark one, with a little noise. */
function draw(inside: (x: number, y: number) => boolean, roll: (n: number) => number): Uint8Array {
  const radius = 4 + roll(3);
  const centre = [SIDE / 2 + roll(5) - 2, SIDE / 2 + roll(5) - 2] as const;
  const light = [150 + roll(90), 150 + roll(90), 150 + roll(90)];
  const dark = [20 + roll(70), 20 + roll(70), 20 + roll(70)];
  const pixels = new Uint8Array(SIDE * SIDE * 3);
  for (let p = 0; p < SIDE * SIDE; p++) {
    const [x, y] = [(p % SIDE) + 0.5 - centre[0], Math.floor(p / SIDE) + 0.5 - centre[1]];
    const colour = inside(x / radius, y / radius) ? light : dark;
    for (let c = 0; c < 3; c++) pixels[3 * p + c] = colour[c]! + roll(16);
  }
  return pixels;
}

let root = '';
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'lpld-e2e-'));
  const roll = dice(7);
  for (const [split, count] of [
    ['train', 64],
    ['test', 50],
  ] as const)
    for (const [name, inside] of Object.entries(SHAPES)) {
      const files: Record<string, Uint8Array> = {};
      for (let i = 0; i < count; i++)
        files[`${split}/${name}/${String(i).padStart(3, '0')}.png`] = await encodeImage(
          draw(inside, roll),
          SIDE,
          SIDE,
          3,
          'png',
        );
      await put(join(root, 'shapes'), files);
    }
});
afterAll(() => rm(root, { recursive: true, force: true }));

const config = () =>
  parseConfig({
    name: 'shapes',
    controls: ['random'],
    dataset: { format: 'folder', path: join(root, 'shapes'), inputSize: SIDE },
    squeeze: { widths: [16, 32], epochs: 12, batch: 32, lr: 0.01, cropScale: [0.6, 1] },
    synthesize: { ipc: 2, iterations: 120, cropScale: [0.6, 1], rollMin: 0, rollMax: 0, encoding: 'png' },
    relabel: { batch: 6, epochs: 200, cropScale: [0.3, 1] },
    prune: { pruneRatio: 0.5 },
    train: { epochs: 200, lr: 0.005, students: 2 },
  });

test('two images per class and pruned labels teach more than chance; a second run gives the same artifacts', {
  timeout: 120_000,
}, async () => {
  const report = await runPipeline(config(), optionsOf(join(root, 'one')));
  expect(report.teacher.top1).toBeGreaterThan(0.9);
  expect(report.student.top1).toBeGreaterThan(CHANCE + MARGIN);
  expect(report.student.top1).toBeGreaterThan(report.random!.top1 + 0.1); // real images with hard labels
  expect(report.images).toMatchObject({ count: 6 });
  expect(report.labels.records).toBe(100);
  await runPipeline(config(), optionsOf(join(root, 'two')));
  expect(await idsOf(join(root, 'two'), config())).toEqual(await idsOf(join(root, 'one'), config()));
});
