// manifest.json, labels.json, set.json and what they lead to: artifacts opened and verified, indices checked, sets read.

import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { damage, damageJson, once, pick } from '../mutate.mjs';
import { makeSet } from '../sets.mjs';

const bytesOf = (text) => new TextEncoder().encode(text);

/** @param {import('../worker.mjs').Place} place */
export async function open({ load, dir }) {
  const { openArtifact, parseManifest, stageKey } = await load('artifact');
  const { openSyntheticSet } = await load('datasets/synthetic-set');
  const { checkIndex } = await load('label-format');
  const { parseStrictJson } = await load('canonical-json');
  const { LpldError } = await load('errors');
  const at = join(dir, 'set');
  await makeSet(load, at, { classes: 2, size: 4, perClass: 2 });
  const good = {};
  for (const name of ['manifest.json', 'set.json']) good[name] = await readFile(join(at, name), 'utf8');
  const shard = (n) => ({
    file: `shard-0000${n}.safetensors`,
    firstId: 4 * n,
    lastId: 4 * n + 3,
    records: 4,
    rows: 16,
  });
  const plan = { images: 12, batch: 4, epochs: 3, pruneRatio: 0, dropLast: true, keep: 'prefix' };
  const numbers = { numClasses: 5, recordsPerShard: 4, batch: 4, inputSize: 8, seed: '7', streamVersion: 1 };
  const augment = { cropScale: [0.5, 1], flip: true, cutout: 0, mix: 'cutmix' };
  good['labels.json'] = JSON.stringify({
    format: 2,
    codec: 'dense:f16',
    recipes: 'derived',
    ...numbers,
    augment,
    plan,
    shards: [shard(0), shard(1)],
  });

  function strict(bytes) {
    try {
      return parseStrictJson(new TextDecoder().decode(bytes));
    } catch (error) {
      throw new LpldError('E_DATA', error.message, { path: 'labels.json' });
    }
  }

  /** Rewrites the manifest's key, and the size of set.json in it, so that what is wrong is met further in. */
  function fitting(text, setBytes) {
    const manifest = JSON.parse(text);
    for (const file of manifest.files) if (file.path === 'set.json') file.bytes = setBytes;
    return JSON.stringify({ ...manifest, key: stageKey(manifest) });
  }

  return {
    // E_MISMATCH: `format` may be damaged into that of before the first release.
    allows: ({ code, details }) => ['E_DATA', 'E_MISMATCH'].includes(code) && typeof details.path === 'string',
    async make(roll) {
      const name = pick(roll, Object.keys(good));
      let bytes = once(roll, 3) ? damage(bytesOf(good[name]), roll) : bytesOf(damageJson(good[name], roll));
      const files = { [name]: bytes };
      try {
        if (name === 'set.json') files['manifest.json'] = bytesOf(fitting(good['manifest.json'], bytes.length));
        else if (name === 'manifest.json' && once(roll, 2)) {
          bytes = bytesOf(fitting(new TextDecoder().decode(bytes), bytesOf(good['set.json']).length));
          files[name] = bytes;
        }
      } catch {} // no JSON any more, or none that has a key
      const verify = once(roll, 3);
      return {
        files,
        async run() {
          if (name === 'labels.json') return void checkIndex(strict(bytes), 'labels.json');
          if (name === 'manifest.json') parseManifest(new TextDecoder().decode(bytes), 'manifest.json');
          for (const [path, content] of Object.entries(files)) await writeFile(join(at, path), content);
          const artifact = await openArtifact(at, { verify });
          for (const { path } of artifact.manifest.files) artifact.path(path);
          const set = await openSyntheticSet(at);
          for await (const _ of set.train.read());
        },
        async after() {
          for (const path of Object.keys(files))
            if (good[path] !== undefined) await writeFile(join(at, path), good[path]);
        },
      };
    },
  };
}
