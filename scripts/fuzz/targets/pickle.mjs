// Torch files: weights (zip and legacy), label batches, and whole label stores of others, which are imported in full now
// and then, with an eye on what is written where.

import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { damage, damageJson, once, pick } from '../mutate.mjs';
import { damagePickle, damageTorchZip } from '../mutate-torch.mjs';
import { makeSet } from '../sets.mjs';

const WEIGHTS = ['zip', 'legacy', 'network', 'views', 'views-legacy', 'dtypes', 'nested'];
const SIZE = 8;

/** @returns {import('../../../dist/tensor.js').TensorView} */
const view = (dtype, shape, array) => ({ dtype, shape, data: new Uint8Array(array.buffer) });

/**
 * A label batch of four images of two classes.
 *
 * @returns {import('../../../dist/interchange/fkd.js').FkdBatch}
 */
function batchOf(kind, shift) {
  const [rows, classes] = [4, 2];
  const crop = Float32Array.from({ length: 4 * rows }, (_, i) => [shift % 3, 1, 4, 5][i % 4] / SIZE);
  return {
    coords: view('F32', [rows, 4], crop),
    flip:
      kind === 'cutout'
        ? view('F32', [rows, 7], new Float32Array(7 * rows))
        : view('BOOL', [rows], Uint8Array.of(0, 1, 1, 0)),
    mixIndex: kind === 'none' ? null : view('I64', [rows], BigInt64Array.of(3n, 2n, 1n, 0n)),
    lambda: kind === 'none' ? null : 0.75,
    box: kind === 'cutmix' ? [1, 2, 5, 6] : null,
    logits: view(
      'F16',
      [rows, classes],
      Uint16Array.from({ length: rows * classes }, (_, i) => 0x3c00 + 64 * i + shift),
    ),
  };
}

/** @param {import('../worker.mjs').Place} room */
export async function open(room) {
  const { load, root, dir } = room;
  const { fkdFile } = await load('interchange/fkd-export');
  const { readFkdFile, openFkd } = await load('interchange/fkd-import');
  const { readWeights } = await load('interchange/weights');
  const { importData } = await load('import');
  const { noProgress } = await load('progress');
  const fixture = (name) => join(fileURLToPath(root), 'test', 'fixtures', name);
  const seedOf = async (path) => new Uint8Array(await readFile(path));

  const weights = [];
  for (const name of WEIGHTS) weights.push(await seedOf(fixture(`${name}.pth`)));
  const batches = ['none', 'cutmix', 'mixup', 'cutout'].map(
    (kind, i) => new Uint8Array(Buffer.concat(fkdFile(batchOf(kind, i)))),
  );
  batches.push(await seedOf(fixture('fkd/numpy-1-names.tar')), await seedOf(fixture('fkd/epoch_0/batch_0.tar')));

  const store = join(dir, 'fkd');
  const files = { 'sampler_indices_epoch.json': new TextEncoder().encode('{"0": [3, 1, 0, 2], "1": [0, 1, 2, 3]}') };
  for (const epoch of [0, 1]) files[`epoch_${epoch}/batch_0.tar`] = batches[1 + epoch];
  for (const [name, bytes] of Object.entries(files)) {
    await mkdir(dirname(join(store, name)), { recursive: true });
    await writeFile(join(store, name), bytes);
  }
  const images = join(dir, 'images');
  await makeSet(load, images, { classes: 2, size: SIZE, perClass: 2 });
  const target = { images: 4, size: SIZE, inputSize: SIZE, numClasses: 2 };

  const damaged = (seed, roll) => {
    if (seed[0] === 0x50) return damageTorchZip(seed, roll);
    return once(roll, 2) ? damage(seed, roll, pick(roll, weights)) : damagePickle(seed, roll);
  };

  async function single(name, bytes, read) {
    const path = join(dir, name);
    return {
      files: { [name]: bytes },
      async run() {
        await writeFile(path, bytes);
        await read(path);
      },
    };
  }

  async function wholeStore(roll) {
    const [name, good] = pick(roll, Object.entries(files));
    const bytes = name.endsWith('.json')
      ? once(roll, 2)
        ? damage(good, roll)
        : new TextEncoder().encode(damageJson(new TextDecoder().decode(good), roll))
      : damaged(good, roll);
    const into = once(roll, 4);
    const out = join(dir, 'out');
    return {
      files: { [name]: bytes },
      async run() {
        await writeFile(join(store, name), bytes);
        const signal = new AbortController().signal;
        if (into)
          await importData({ format: 'fkd', dir: store, images, out, inputSize: SIZE, progress: noProgress, signal });
        else {
          const found = await openFkd(store, target);
          for (let record = 0; record < found.records; record++) await found.read(record);
        }
      },
      async after() {
        await writeFile(join(store, name), good);
        for (const made of [out, `${out}.partial`]) await rm(made, { recursive: true, force: true });
      },
    };
  }

  return {
    writes: ['work/out', 'work/out.partial', 'work/out.lock', 'work/weights.pth', 'work/batch.tar', 'work/fkd'],
    allows: (error) => error.code === 'E_DATA' && typeof error.details.path === 'string',
    async make(roll) {
      const way = roll(5);
      if (way < 2) return single('weights.pth', damaged(pick(roll, weights), roll), readWeights);
      if (way < 4)
        return single('batch.tar', damaged(pick(roll, batches), roll), (path) =>
          readFkdFile(path, once(roll, 2) ? 4 : null),
        );
      return wholeStore(roll);
    },
  };
}
