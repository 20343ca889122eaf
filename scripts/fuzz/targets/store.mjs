// The label store reader, as far as a student goes: open, read records, follow the plan, decode with the store's codec, and
// now and then train on it. Shards, the basis, labels.json and the manifest are damaged; the manifest's sizes mostly follow.

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { damage, damageJson, once, pick } from '../mutate.mjs';
import { damageTensors } from '../mutate-tensors.mjs';
import { CLASSES, EXECUTION, IMAGES, makeStores, openRoom, quiet, SIZE } from '../stores.mjs';

const text = (bytes) => new TextDecoder().decode(bytes);
const bytesOf = (string) => new TextEncoder().encode(string);

/** E_MISMATCH is said by openPool, where labels are not those of the images, and by codecs, of tensors that are not theirs. */
const CONFIG = /for codec/; // a name of another version's

/** @param {import('../worker.mjs').Place} place */
export async function open({ load, dir }) {
  const { openArtifact, stageKey } = await load('artifact');
  const { LabelStore } = await load('labels');
  const { openPool, poolOf, readPool } = await load('stages/pool');
  const { LpldError } = await load('errors');
  const { tensor } = await load('tensor');
  const room = await openRoom(load);
  const stores = await makeStores(load, room, join(dir, 'stores'));
  const { native, images, model, sizes, input } = room;

  function damagedFile(store, name, roll) {
    const good = store.files[name];
    if (name.endsWith('.safetensors')) return damageTensors(good, roll);
    return once(roll, 3) ? damage(good, roll) : bytesOf(damageJson(text(good), roll));
  }

  /** The manifest that names the sizes of the damaged files, and the key of its own content. */
  function fitting(store, changed) {
    const manifest = JSON.parse(text(changed['manifest.json'] ?? store.files['manifest.json']));
    for (const file of manifest.files)
      file.bytes = (changed[file.path] ?? store.files[file.path])?.length ?? file.bytes;
    return bytesOf(JSON.stringify({ ...manifest, key: stageKey(manifest) }));
  }

  async function use(store, { positions, raw, train }) {
    const artifact = await openArtifact(store.dir);
    const labels = await LabelStore.open(artifact);
    try {
      const some = Int32Array.from(positions, (n) => n % Math.max(1, labels.numRecords));
      /** @type {any} */
      const set = { train: { count: IMAGES }, classNames: new Array(CLASSES).fill('x') };
      /** @type {any} what a pool is opened with */
      const context = { inputs: { labels: artifact }, config: { dataset: { inputSize: SIZE } } };
      const pool = raw ? poolOf(labels) : await openPool(context, set);
      if (pool.plan.images !== IMAGES) throw new LpldError('E_MISMATCH', 'labels of other images'); // as export says
      /** @type {import('../../../dist/recipe.js').ImageSizes} */
      const known = raw ? () => [SIZE, SIZE] : sizes;
      const inputSize = labels.index.inputSize;
      const { recipes, target } = await readPool(pool, some, {
        sizes: known,
        inputSize,
        temperature: 2,
        teacherTemperature: 2,
        temperatureSquared: false,
      });
      if (target.kind === 'hard') throw new Error('a store without labels');
      await native.decode({ ...target, threads: 1, numClasses: labels.index.numClasses, recipes }, quiet).promise;
      if (!train || raw) return;
      const lr = tensor('F64', [some.length], new Float64Array(some.length).fill(1e-6));
      /** @type {import('../../../dist/native.js').TrainSpec['optimizer']} */
      const optimizer = { kind: 'sgd', lr, momentum: 0, beta1: 0, beta2: 0, eps: 1, weightDecay: 0, decay: 'all' };
      await native.train(model, images, { ...EXECUTION, recipes, input, target, optimizer, hashPixels: false }, quiet)
        .promise;
    } finally {
      await labels.close();
    }
  }

  return {
    // E_DIVERGED: labels may be damaged into numbers that no training survives.
    allows: ({ code, message }) =>
      ['E_DATA', 'E_MISMATCH', 'E_DIVERGED'].includes(code) || (code === 'E_CONFIG' && CONFIG.test(message)),
    async make(roll) {
      const store = pick(roll, stores);
      const shards = Object.keys(store.files).filter((name) => name.endsWith('.safetensors'));
      const name = pick(roll, [...shards, ...shards, 'labels.json', 'labels.json', 'manifest.json']);
      const files = { [name]: damagedFile(store, name, roll) };
      if (!once(roll, 8))
        try {
          files['manifest.json'] = fitting(store, files);
        } catch {} // a manifest that is no JSON any more stays as it is
      const plan = {
        positions: Array.from({ length: 1 + roll(4) }, () => roll(8)),
        raw: once(roll, 3),
        train: once(roll, 8),
      };
      return {
        files,
        async run() {
          for (const [path, content] of Object.entries(files)) await writeFile(join(store.dir, path), content);
          await use(store, plan);
        },
        async after() {
          for (const path of Object.keys(files)) await writeFile(join(store.dir, path), store.files[path]);
        },
      };
    },
  };
}
