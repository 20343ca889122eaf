// The control "random": real training images, as many per class as the distilled set has, resized to the stored size and
// encoded like synthetic ones, a few at a time: no other image is decoded. Philox purpose 22, object = class.
// Source: src/methods/random.ts.

import { encodeImage } from '../datasets/images.ts';
import { imageName, setOf } from '../datasets/synthetic-set.ts';
import type { Dataset } from '../datasets/types.ts';
import { expected, LpldError } from '../errors.ts';
import { Purpose, permutation } from '../rng.ts';
import { loadStore, tellAside } from './images.ts';
import { factsOf } from './shared.ts';
import type { StageContext, Summary } from './types.ts';

/** Images decoded and written together. */
const TOGETHER = 64;

/**
 * Indices of the training images of each class wanted, by rising class id.
 * @throws {LpldError} E_CONFIG for a class that is not there, or that has fewer than ipc images
 */
export function membersOf(
  { classNames, train }: Pick<Dataset, 'classNames' | 'train'>,
  wanted: readonly number[] | null,
  ipc: number,
): Map<number, number[]> {
  const members = new Map<number, number[]>();
  for (const classId of [...(wanted ?? classNames.keys())].sort((a, b) => a - b)) members.set(classId, []);
  for (const [index, label] of train.labels.entries()) members.get(label)?.push(index);
  for (const [classId, { length }] of members) {
    if (classId >= classNames.length)
      throw new LpldError('E_CONFIG', expected(`class ids below ${classNames.length}`, 'synthesize.classes', classId), {
        key: 'synthesize.classes',
      });
    if (length >= ipc) continue;
    const what = `at most ${length}, the images of class ${classId} (${classNames[classId]}),`;
    throw new LpldError('E_CONFIG', expected(what, 'synthesize.ipc', ipc), { key: 'synthesize.ipc', classId });
  }
  return members;
}

/** Draws, decodes, resizes and encodes the images. @throws {LpldError} E_CONFIG where a class has fewer than ipc images */
export async function takeReal(context: StageContext): Promise<Summary> {
  const { config, draft, dataset, progress } = context;
  const { ipc, classes: wanted, encoding } = config.synthesize;
  if (config.synthesize.shard !== null)
    throw new LpldError('E_CONFIG', expected('none for real images', 'synthesize.shard', config.synthesize.shard));
  const facts = factsOf(dataset!, config);
  const { train } = dataset!;
  using _unpacked = train.aside; // while some images at a time are read
  tellAside(train, progress);
  const byClass = membersOf(dataset!, wanted, ipc);
  const chosen = new Map<number, { classId: number; id: number }>();
  for (const [classId, members] of byClass) {
    const order = permutation(BigInt(config.seed), Purpose.realSubset, classId, 0, members.length);
    for (let id = 0; id < ipc; id++) chosen.set(members[order[id]!]!, { classId, id });
  }
  progress.start(chosen.size, 'image', 'real images');
  const size = config.dataset.storedSize > 0 ? config.dataset.storedSize : facts.inputSize;
  const indices = Int32Array.from(chosen.keys()).sort();
  const nameOf = (index: number): string => {
    const { classId, id } = chosen.get(index)!;
    return imageName(classId, id, encoding);
  };
  for (let first = 0; first < indices.length; first += TOGETHER) {
    const here = indices.subarray(first, first + TOGETHER);
    if (here.every((index) => draft.has(nameOf(index)))) continue; // of an interrupted run
    const transform = { resize: 'exact' as const, size, centerCrop: 0 };
    using store = await loadStore(context, train, facts.channels, transform, here);
    const files: [string, Uint8Array][] = [];
    for (const [position, index] of here.entries()) {
      const bytes = await encodeImage(store.image(position).data, size, size, facts.channels, encoding);
      files.push([nameOf(index), bytes]);
      progress.update(first + position + 1);
    }
    await draft.writeFiles(files);
  }
  await draft.writeJson('set.json', setOf(facts, { size, classes: [...byClass.keys()], ipc, encoding }));
  progress.finish();
  return { method: 'random', images: chosen.size, ipc, size };
}
