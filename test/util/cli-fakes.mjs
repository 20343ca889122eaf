// Fake services for the command line: two stages with every kind of option, a pipeline that waits or ends, calls
// recorded. Plain JavaScript, because child processes import it beside the built package.

import { z } from 'zod';

const squeeze = z.object({
  epochs: z.int().min(1).max(1000).default(20).describe('passes over the training images'),
  lr: z.number().gt(0).default(0.002).describe('largest learning rate'),
  statsAugment: z.enum(['none', 'train']).default('none').describe('how images are augmented for statistics'),
  warmup: z.number().min(0).nullable().default(null).describe('warm-up epochs'),
  weights: z
    .string()
    .regex(/^[\w./-]+$/)
    .nullable()
    .default(null)
    .describe('teacher weights'),
  widths: z.array(z.int().min(1)).default([32, 64]).describe('channels of each block'),
  scale: z.tuple([z.number(), z.number()]).default([0.5, 1]).describe('crop area'),
  cutmix: z.boolean().default(true).describe('mix images'),
  exact: z.boolean().default(false).describe('exact statistics'),
  precision: z.enum(['fp32', 'tf32', 'bf16']).default('fp32').describe('arithmetic'),
  crop: z.object({ minScale: z.number().default(0.1).describe('smallest crop') }).prefault({}),
  teacherName: z.string().default('a').describe('name').meta({ flag: 'call' }),
  hidden: z.int().default(1).describe('internal').meta({ flag: false }),
});
const train = z.object({ steps: z.int().min(1).default(10).describe('training steps') });

export const STAGES = [
  { name: 'squeeze', summary: 'train a teacher and take its statistics', examples: [], inputs: [], options: squeeze },
  { name: 'train', summary: 'train students', examples: [], inputs: ['images', 'labels'], options: train },
];

const artifact = (stage, dir) => ({
  dir,
  id: 'ab'.repeat(32),
  manifest: {
    stage,
    stageVersion: 1,
    deviceClass: 'cpu',
    precision: 'fp32',
    inputs: { images: 'cd'.repeat(32) },
    summary: { top1: 0.5 },
    files: [{ path: 'weights.safetensors', bytes: 2048, sha256: 'ef'.repeat(32) }],
  },
});

/** Services that record their calls in `calls`; `change` replaces any of them. */
export function fakeServices(report, change = {}) {
  const calls = [];
  const record =
    (name, result) =>
    async (...args) => {
      calls.push([name, ...args]);
      return typeof result === 'function' ? result(...args) : result;
    };
  const services = {
    version: '1.2.3',
    stages: STAGES,
    presetNames: record('presetNames', ['quickstart', 'tiny']),
    loadConfig: record('loadConfig', (source, overrides) => ({
      name: source,
      description: `about ${source}`,
      overrides,
    })),
    runPipeline: record('runPipeline', report),
    planPipeline: record('planPipeline', {
      stages: [{ name: 'squeeze', folder: 'squeeze', action: 'run', bytes: 1000, seconds: 5 }],
    }),
    runStage: record('runStage', (stage, _, options) => artifact(stage, options.out)),
    mergeShards: record('mergeShards', (_, options) => artifact('synthesize', options.out)),
    openArtifact: record('openArtifact', (dir) => artifact('squeeze', dir)),
    inspectLabels: record('inspectLabels', null),
    doctor: record('doctor', {
      ok: false,
      report: { ok: false, mend: 'npx lpld-native install' },
      text: 'no LibTorch',
    }),
    install: record('install', { root: 'cache', version: '2.13.0', cuda: null }),
    formats: record('formats', [{ name: 'idx', summary: 'MNIST and its like' }]),
    openDataset: record('openDataset', {
      name: 'digits',
      channels: 1,
      classNames: ['a', 'b'],
      mean: [0.5],
      std: [0.5],
      train: { count: 3, labels: Int32Array.of(0, 0, 1) },
      test: null,
      id: '12'.repeat(32),
    }),
    fetchDataset: record('fetchDataset', { id: '1', train: { count: 3 }, test: { count: 2 } }),
    sources: record('sources', [{ name: 'mnist', summary: 'digits', format: 'idx' }]),
    importWeights: record('importWeights', { tensors: 3, bytes: 100, sha256: 'aa' }),
    compareSets: record('compareSets', 'compare.html'),
    exchangeFormats: () => ({
      exports: [
        { name: 'fkd', summary: 'labels of others', holds: 'labels' },
        { name: 'folder', summary: 'images', holds: 'images' },
      ],
      imports: [{ name: 'fkd', summary: 'labels of others', holds: 'labels' }],
    }),
    exportData: record('exportData', ({ out, format }) => ({ out, format, items: 12, files: 13, bytes: 2048 })),
    importData: record('importData', ({ out }) => artifact('import', out)),
    remakeReport: record('remakeReport', 'run/report.html'),
    ...change,
  };
  return { services, calls };
}
