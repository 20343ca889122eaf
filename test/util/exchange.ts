// What the tests of export and import share: a chain of tiny artifacts, and the calls with quiet options.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll } from 'vitest';
import { type Artifact, openArtifact } from '../../src/artifact.ts';
import type { Config } from '../../src/config.ts';
import { openSyntheticSet } from '../../src/datasets/synthetic-set.ts';
import { type ExportOptions, exportData } from '../../src/export.ts';
import { type ImportOptions, importData } from '../../src/import.ts';
import { LabelStore } from '../../src/labels.ts';
import type { NativeImageStore, Recipes } from '../../src/native.ts';
import { resolveRuntime, runStage } from '../../src/run.ts';
import { loadStore } from '../../src/stages/images.ts';
import { poolOf, readPool } from '../../src/stages/pool.ts';
import { storeSizes } from '../../src/stages/shared.ts';
import type { TensorView } from '../../src/tensor.ts';
import { decode, encode } from './codes.ts';
import { native } from './native.ts';
import { inputsIn, makeChain, optionsOf, watching } from './tiny.ts';

export const quietly = () => ({ progress: watching().sink, signal: new AbortController().signal });

/** Six images of three classes and a teacher in a folder that vanishes; labels are made by relabelTo. */
export function madeImages(config: Config): { root: () => string; images: () => string } {
  let root = '';
  beforeAll(async () => {
    root = await mkdtemp(join(tmpdir(), 'lpld-exchange-'));
    await makeChain(root, config, ['squeeze', 'synthesize']);
  });
  afterAll(() => rm(root, { recursive: true, force: true }));
  return { root: () => root, images: () => join(root, 'synthesize') };
}

export async function relabelTo(root: string, name: string, config: Config): Promise<string> {
  const out = join(root, name);
  await runStage('relabel', config, {
    ...optionsOf(out),
    inputs: inputsIn(root, 'relabel', ['squeeze', 'synthesize']),
  });
  return out;
}

export const exporting = (options: Omit<ExportOptions, 'progress' | 'signal'> & Partial<ExportOptions>) =>
  exportData({ ...quietly(), ...options });

export const importing = (
  options: Omit<ImportOptions, 'progress' | 'signal' | 'inputSize'> & Partial<ImportOptions>,
): Promise<Artifact> => importData({ ...quietly(), inputSize: null, ...options });

/** Everything a student would read of a store: Recipes, and logits as f16 bits. */
export async function contentOf(
  labels: string,
  images: string,
): Promise<{ ids: number[]; recipes: Recipes; logits: TensorView }> {
  await using store = await LabelStore.open(await openArtifact(labels));
  const { numClasses, inputSize } = store.index;
  const { store: pixels } = await pixelsOf(images);
  const all = Int32Array.from(store.recordIds.keys());
  const sizes = storeSizes(pixels);
  const read = await readPool(poolOf(store), all, {
    sizes,
    inputSize,
    temperature: 1,
    teacherTemperature: 1,
    temperatureSquared: false,
  });
  pixels.dispose();
  if (read.target.kind !== 'soft') throw new Error('no soft labels');
  const spec = { ...read.target, threads: 1, numClasses, recipes: read.recipes };
  const decoded = await decode(spec, read.target);
  const dense = await encode({ ...spec, codec: 'dense:f16', basis: {} }, { logits: decoded, features: null });
  const logits = dense.tensors.logits!;
  return { ids: [...store.recordIds], recipes: read.recipes, logits };
}

/** The images of an artifact in a store of their own. The caller disposes it. */
export async function pixelsOf(images: string): Promise<{ store: NativeImageStore }> {
  const set = await openSyntheticSet(images);
  return {
    store: await loadStore({ native: native(), runtime: resolveRuntime(optionsOf(images)) }, set.train, set.channels),
  };
}
