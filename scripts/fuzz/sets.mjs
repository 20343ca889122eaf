// Small good artifacts and data sets that the targets damage, made by this package's own writers.

/** @import { Load } from './worker.mjs' */

/** An image that differs between neighbouring pixels, [height, width, channels] uint8. */
export function pixels(seed, height, width, channels) {
  return Uint8Array.from({ length: height * width * channels }, (_, i) => (seed * 37 + i * 11 + (i >> 4) * 5) & 255);
}

/** @type {import('../../dist/artifact.js').StageHeader} */
export const HEADER = {
  stage: 'fuzz',
  stageVersion: 1,
  config: { a: 1 },
  inputs: {},
  deviceClass: 'cpu',
  precision: 'fp32',
};

/**
 * A synthetic set of `perClass` PNG images of each class, as an artifact at `out`.
 *
 * @param {Load} load
 * @param {string} out
 */
export async function makeSet(load, out, { classes, size, perClass }) {
  const { openDraft } = await load('artifact');
  const { encodeImage } = await load('datasets/images');
  const { imageName, setOf } = await load('datasets/synthetic-set');
  const draft = await openDraft(out, HEADER);
  const files = [];
  for (let classId = 0; classId < classes; classId++)
    for (let id = 0; id < perClass; id++) {
      const content = await encodeImage(pixels(3 * classId + id, size, size, 3), size, size, 3, 'png');
      files.push([imageName(classId, id, 'png'), new Uint8Array(content)]);
    }
  await draft.writeFiles(files);
  /** @type {Pick<import('../../dist/index.js').Dataset, 'channels' | 'classNames' | 'mean' | 'std'>} */
  const facts = {
    channels: 3,
    classNames: Array.from({ length: classes }, (_, i) => `class ${i}`),
    mean: [0.5, 0.5, 0.5],
    std: [0.2, 0.2, 0.2],
  };
  const ids = Array.from({ length: classes }, (_, i) => i);
  await draft.writeJson('set.json', setOf(facts, { size, ipc: perClass, encoding: 'png', classes: ids }));
  return draft.publish({ images: files.length });
}
