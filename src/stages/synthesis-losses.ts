// Losses of synthesis while it runs and afterwards: thinned to about 200 rows a forward, kept beside the images, and
// averaged over all groups for the report. Invariant: a loss that is not finite is never kept.

import type { Forward } from '../groups.ts';
import type { NormLayer, SynthesizeResult } from '../native.ts';
import { arrayOf, type TensorMap, tensor } from '../tensor.ts';
import type { StageContext } from './types.ts';

/** Where a forward keeps its losses; written last, so its presence says that the forward is done. */
export const lossFile = ({ first }: Forward): string => `losses/${String(first).padStart(5, '0')}.safetensors`;

/** Losses are kept every `stride` iterations, and the last. */
const strideOf = (iterations: number): number => Math.max(1, Math.ceil(iterations / 200));

/** CE and R of each group [rows, G], and r of each layer over all groups [rows, L]; F64. */
export class ForwardLosses {
  readonly #stride: number;
  readonly #rows: number;
  readonly #kept: Record<'ce' | 'bn' | 'layers', { width: number; values: Float64Array }>;

  /** @param saved - what `tensors()` gave before an interruption; absent for a new forward */
  constructor(iterations: number, groups: number, layers: number, saved?: TensorMap) {
    this.#stride = strideOf(iterations);
    this.#rows = Math.ceil(iterations / this.#stride);
    const kept = (name: string, width: number) => ({
      width,
      values: saved ? arrayOf(saved[name]!, 'F64').slice() : new Float64Array(this.#rows * width),
    });
    this.#kept = { ce: kept('ce', groups), bn: kept('bn', groups), layers: kept('layers', layers) };
  }

  /**
   * Keeps the losses of one segment.
   * @param t0 - iterations done before it
   * @returns null, or the first iteration (from 1) and the group whose loss is not finite: nothing from there on is kept
   */
  keep({ lossCe, lossBn, lossLayers }: SynthesizeResult, t0: number): { iteration: number; group: number } | null {
    const { ce, bn, layers } = this.#kept;
    const groups = ce.width;
    const fresh = [
      [ce, arrayOf(lossCe, 'F64')],
      [bn, arrayOf(lossBn, 'F64')],
      [layers, arrayOf(lossLayers, 'F64')],
    ] as const;
    for (let i = 0; i < fresh[0][1].length / groups; i++) {
      for (let group = 0; group < groups; group++)
        if (![fresh[0], fresh[1]].every(([, values]) => Number.isFinite(values[i * groups + group])))
          return { iteration: t0 + i + 1, group };
      const row = Math.floor((t0 + i) / this.#stride); // the last iteration of the row's stride stays
      for (const [{ width, values }, from] of fresh) values.set(from.subarray(i * width, (i + 1) * width), row * width);
    }
    return null;
  }

  tensors(): TensorMap {
    return Object.fromEntries(
      Object.entries(this.#kept).map(([name, { width, values }]) => [name, tensor('F64', [this.#rows, width], values)]),
    );
  }
}

/** Mean losses over all groups for the report: curves.json, layers.json; their last values for the manifest. */
export async function writeCurves(
  draft: StageContext['draft'],
  forwards: readonly Forward[],
  iterations: number,
  norms: readonly NormLayer[],
): Promise<{ lossCe: number; lossBn: number }> {
  const stride = strideOf(iterations);
  const rows = Math.ceil(iterations / stride);
  const sums = { ce: new Float64Array(rows), bn: new Float64Array(rows) };
  const layers = norms.map(() => new Float64Array(rows));
  let groups = 0;
  for (const forward of forwards) {
    const losses = await draft.readTensors(lossFile(forward));
    const width = forward.groups.length;
    groups += width;
    for (const name of ['ce', 'bn'] as const)
      for (const [i, value] of arrayOf(losses[name]!, 'F64').entries()) sums[name][Math.floor(i / width)]! += value;
    for (const [i, value] of arrayOf(losses.layers!, 'F64').entries())
      layers[i % norms.length]![Math.floor(i / norms.length)]! += value * width;
  }
  const points = (values: Float64Array): [number, number][] =>
    [...values].map((sum, row) => [Math.min((row + 1) * stride, iterations), sum / groups]);
  const write = (file: string, series: { name: string; points: [number, number][] }[]) =>
    draft.writeJson(file, { x: 'iteration', series });
  await write('curves.json', [
    { name: 'cross-entropy', points: points(sums.ce) },
    { name: 'BN distance', points: points(sums.bn) },
  ]);
  await write(
    'layers.json',
    norms.map(({ name }, layer) => ({ name, points: points(layers[layer]!) })),
  );
  return { lossCe: sums.ce.at(-1)! / groups, lossBn: sums.bn.at(-1)! / groups };
}
