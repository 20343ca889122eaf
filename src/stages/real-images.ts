// The control "random": real training images, as many per class as the distilled set has, cut to the stored size and
// encoded like synthetic ones. Philox purpose 22, object = class. Source: src/methods/random.ts.

import { encodeImage } from '../datasets/images.ts';
import { imageName, setOf } from '../datasets/synthetic-set.ts';
import { expected, LpldError } from '../errors.ts';
import { Purpose, permutation } from '../rng.ts';
import { factsOf, loadStore, trainTransform } from './shared.ts';
import type { StageContext, Summary } from './types.ts';

/** Draws, decodes, cuts and encodes the images. @throws {LpldError} E_CONFIG where a class has fewer than ipc images */
export async function takeReal({ config, native, runtime, draft, dataset, progress }: StageContext): Promise<Summary> {
  const { ipc, classes: wanted, encoding } = config.synthesize;
  if (config.synthesize.shard !== null)
    throw new LpldError('E_CONFIG', expected('none for real images', 'synthesize.shard', config.synthesize.shard));
  const facts = factsOf(dataset!, config);
  const { train } = dataset!;
  const byClass: number[][] = facts.classNames.map(() => []);
  for (const [index, label] of train.labels.entries()) byClass[label]!.push(index);
  const classes = (wanted ?? [...byClass.keys()]).slice().sort((a, b) => a - b);
  const chosen = new Map<number, { classId: number; id: number }>();
  for (const classId of classes) {
    const members = byClass[classId] ?? [];
    if (members.length < ipc)
      throw new LpldError(
        'E_CONFIG',
        expected(`at most ${members.length} images of class ${classId}`, 'synthesize.ipc', ipc),
      );
    const order = permutation(BigInt(config.seed), Purpose.realSubset, classId, 0, members.length);
    for (let id = 0; id < ipc; id++) chosen.set(members[order[id]!]!, { classId, id });
  }
  progress.start(chosen.size, 'image', 'real images');
  const transform =
    config.dataset.storedSize > 0
      ? trainTransform(config)
      : { resize: 'exact' as const, size: facts.inputSize, centerCrop: 0 };
  const store = await loadStore(native, runtime, train, facts.channels, transform, new Set(chosen.keys()));
  const positions = [...chosen.keys()].sort((a, b) => a - b);
  const files: [string, Uint8Array][] = [];
  for (const [position, index] of positions.entries()) {
    const { classId, id } = chosen.get(index)!;
    const image = store.image(position);
    const [height, width] = image.shape as [number, number];
    files.push([
      imageName(classId, id, encoding),
      await encodeImage(image.data, height, width, facts.channels, encoding),
    ]);
    progress.update(position + 1);
  }
  const size = store.image(0).shape[0]!;
  store.dispose();
  await draft.writeFiles(files);
  await draft.writeJson('set.json', setOf(facts, { size, classes, ipc, encoding }));
  progress.finish();
  return { method: 'random', images: chosen.size, ipc, size };
}
