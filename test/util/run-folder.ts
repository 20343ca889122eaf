// A made-up run folder: real artifacts' layout, drawn images, plausible curves. For the report and CLI tests.

import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import type { RunReport } from '../../src/report/index.ts';
import { score } from '../../src/report/index.ts';

export function fakeReport(out: string, change: Partial<RunReport> = {}): RunReport {
  const stage = (folder: string, seconds: number, peak: number): RunReport['stages'][number] => ({
    name: folder.split('/').at(-1) ?? folder,
    folder,
    seconds,
    peakBytes: peak * 2 ** 20,
    id: [...folder]
      .map((c) => c.charCodeAt(0).toString(16))
      .join('')
      .padEnd(64, '0'),
  });
  return {
    teacher: { top1: 0.984 },
    student: score([0.9715, 0.969, 0.9742]),
    random: score([0.921, 0.927, 0.9244]),
    randomSoft: score([0.974, 0.978, 0.9822]),
    images: { bytes: 51_234, count: 100 },
    labels: { bytes: 135_200, compression: 9.7, bytesPerImage: 1352, records: 60 },
    stages: [
      stage('squeeze', 21.4, 612),
      stage('synthesize', 48.9, 702),
      stage('relabel', 4.2, 388),
      stage('prune', 0.3, 301),
      stage('train', 62.7, 455),
      stage('evaluate', 1.1, 402),
      stage('random/train', 60.2, 455),
    ],
    out,
    config: {
      name: 'quickstart',
      seed: 0,
      dataset: { format: 'digits' },
      synthesize: { ipc: 10, iterations: 500, rBn: 0.05 },
    },
    ...change,
  };
}

const decay = (n: number, from: number, to: number, phase: number): [number, number][] =>
  Array.from({ length: n }, (_, i) => [
    i * 10,
    to + (from - to) * Math.exp((-5 * i) / n) * (1 + 0.1 * Math.sin(i + phase)),
  ]);

/** Writes the artifacts beside a report: curves, images/<class>/<n>.png, a label store. */
export async function fakeRunFolder(out: string, classes = 10, ipc = 10, size = 16): Promise<void> {
  const curves: Record<string, { name: string; points: [number, number][] }[]> = {
    squeeze: [{ name: 'teacher', points: decay(60, 2.3, 0.02, 0) }],
    synthesize: [
      { name: 'cross-entropy', points: decay(50, 2.5, 0.004, 1) },
      { name: 'BN matching', points: decay(50, 40, 3, 2) },
    ],
    train: [0, 1, 2].map((i) => ({ name: `student ${i}`, points: decay(80, 1.2, 0.08, i) })),
  };
  for (const [folder, series] of Object.entries(curves)) {
    await mkdir(join(out, folder), { recursive: true });
    await writeFile(join(out, folder, 'curves.json'), JSON.stringify({ series }));
  }
  for (let c = 0; c < classes; c++) {
    const folder = join(out, 'synthesize', 'images', String(c));
    await mkdir(folder, { recursive: true });
    for (let i = 0; i < ipc; i++) await writeFile(join(folder, `${i}.png`), await drawing(c, i, size));
  }
  await mkdir(join(out, 'prune', 'shards'), { recursive: true });
  await writeFile(join(out, 'prune', 'shards', '0000.safetensors'), Buffer.alloc(96_000));
  await writeFile(join(out, 'prune', 'shards', '0001.safetensors'), Buffer.alloc(36_000));
  await writeFile(join(out, 'prune', 'manifest.json'), JSON.stringify({ stage: 'prune' }));
}

function drawing(c: number, i: number, size: number): Promise<Buffer> {
  const pixels = Buffer.alloc(size * size);
  for (let y = 0; y < size; y++)
    for (let x = 0; x < size; x++) {
      const angle = (c * Math.PI) / 10;
      const wave = Math.sin(((x * Math.cos(angle) + y * Math.sin(angle)) * (3 + (c % 4))) / (size / 6) + i);
      pixels[y * size + x] = 128 + 90 * wave + 30 * Math.sin(x * y + 7 * i);
    }
  return sharp(pixels, { raw: { width: size, height: size, channels: 1 } })
    .png()
    .toBuffer();
}
