// Images and data sets: JPEG and PNG bytes through the decoder; IDX (plain and packed), CIFAR, a folder per class and the
// layout of Tiny-ImageNet, opened, read to the end and appended to an ImageStore, resized now and then.

import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gzipSync } from 'node:zlib';
import { damage, damageJson, once, pick } from '../mutate.mjs';
import { damageImage } from '../mutate-image.mjs';
import { pixels } from '../sets.mjs';

const FIXTURES = [
  'rgb.jpg',
  'grey.jpg',
  'cmyk.jpg',
  'progressive.jpg',
  'rgb.png',
  'grey16.png',
  'palette-alpha.png',
  'one-bit.png',
  'profile.png',
];
const bytesOf = (text) => new TextEncoder().encode(text);

function idx(dims, content) {
  const head = Buffer.alloc(4 + 4 * dims.length);
  head.writeUInt32BE(0x800 + dims.length);
  for (const [i, n] of dims.entries()) head.writeUInt32BE(n, 4 + 4 * i);
  return new Uint8Array(Buffer.concat([head, content]));
}

/** Small good sets by format: name -> content. */
async function makeSets(encode) {
  const labels = Uint8Array.from({ length: 10 }, (_, i) => i);
  const [images, names] = [idx([10, 4, 3], pixels(1, 40, 3, 1)), idx([10], labels)];
  const cifar = {};
  for (const name of ['data_batch_1', 'data_batch_2', 'data_batch_3', 'data_batch_4', 'data_batch_5', 'test_batch'])
    cifar[`${name}.bin`] = Uint8Array.from([...labels].flatMap((label) => [label, ...pixels(label, 32, 32, 3)]));
  cifar['batches.meta.txt'] = bytesOf([...labels].map((n) => `name ${n}`).join('\n'));
  const tiny = { 'wnids.txt': bytesOf('n01\nn02\n'), 'words.txt': bytesOf('n01\tone\nn02\ttwo\n') };
  const annotations = [];
  const folder = {
    'dataset.json': bytesOf('{"name": "x", "channels": 3, "mean": [0.5, 0.5, 0.5], "std": [0.2, 0.2, 0.2]}'),
  };
  for (const [i, wnid] of ['n01', 'n02'].entries()) {
    tiny[`train/${wnid}/images/${wnid}_0.JPEG`] = await encode(i, 64, 'jpeg');
    tiny[`val/images/val_${i}.JPEG`] = await encode(i + 2, 64, 'jpeg');
    annotations.push(`val_${i}.JPEG\t${wnid}\t0\t0\t63\t63`);
    folder[`train/${wnid}/a.png`] = await encode(i, 9, 'png');
    folder[`train/${wnid}/b.jpg`] = await encode(i + 5, 12, 'jpeg');
    folder[`val/${wnid}/c.png`] = await encode(i + 7, 9, 'png');
  }
  tiny['val/val_annotations.txt'] = bytesOf(annotations.join('\n'));
  return {
    idx: {
      'train-images-idx3-ubyte': images,
      'train-labels-idx1-ubyte': names,
      't10k-images-idx3-ubyte': images,
      't10k-labels-idx1-ubyte': names,
    },
    'idx packed': {
      'train-images-idx3-ubyte.gz': new Uint8Array(gzipSync(images)),
      'train-labels-idx1-ubyte.gz': new Uint8Array(gzipSync(names)),
    },
    cifar10: cifar,
    folder,
    'tiny-imagenet': tiny,
  };
}

/** @param {import('../worker.mjs').Place} place */
export async function open({ load, root, dir }) {
  const { decodeImage, encodeImage } = await load('datasets/images');
  const { openDataset } = await load('datasets/index');
  const native = (await load('addon')).loadNative();
  const encode = async (seed, side, as) =>
    new Uint8Array(await encodeImage(pixels(seed, side, side, 3), side, side, 3, as));
  const single = [await encode(1, 16, 'jpeg'), await encode(2, 11, 'png')];
  for (const name of FIXTURES)
    single.push(new Uint8Array(await readFile(join(fileURLToPath(root), 'test', 'fixtures', 'images', name))));
  const sets = await makeSets(encode);
  for (const [format, files] of Object.entries(sets))
    for (const [name, content] of Object.entries(files)) {
      await mkdir(dirname(join(dir, format, name)), { recursive: true });
      await writeFile(join(dir, format, name), content);
    }

  function damagedFile(name, good, roll) {
    if (/\.(jpe?g|png)$/i.test(name)) return damageImage(good, roll);
    if (name.endsWith('.json') && !once(roll, 3)) return bytesOf(damageJson(new TextDecoder().decode(good), roll));
    if (!name.endsWith('.gz'))
      return damage(good.length > 4096 && once(roll, 2) ? good.subarray(0, 3073 * roll(11)) : good, roll);
    return damage(good, roll);
  }

  /** Opens a set, reads all of it and keeps it as the stages do. */
  async function use(folder, format, resize) {
    const found = await openDataset(format, folder, { classes: null, verify: false, skipUnreadable: once(resize, 4) });
    const store = native.createImageStore({ channels: found.channels, device: 'cpu' });
    try {
      const how = { resize: pick(resize, ['none', 'exact', 'shorter']), size: 6, centerCrop: pick(resize, [0, 3]) };
      if (how.resize === 'none') how.centerCrop = 0;
      for (const split of [found.train, found.test])
        if (split !== null)
          for await (const { images, labels, height, width } of split.read())
            store.append(images, labels, { height, width, ...how });
    } finally {
      store.dispose();
    }
  }

  return {
    allows: (error) => error.code === 'E_DATA',
    async make(roll) {
      if (roll(10) < 8) {
        const bytes = damageImage(pick(roll, single), roll);
        const channels = pick(roll, [1, 3]);
        return { files: { image: bytes }, run: () => decodeImage(bytes, 'image', channels) };
      }
      const format = pick(roll, Object.keys(sets));
      const name = pick(roll, Object.keys(sets[format]));
      const good = sets[format][name];
      const bytes = damagedFile(name, good, roll);
      return {
        files: { [`${format}/${name}`]: bytes },
        async run() {
          await writeFile(join(dir, format, name), bytes);
          await use(join(dir, format), format.split(' ')[0], roll);
        },
        after: () => writeFile(join(dir, format, name), good),
      };
    },
  };
}
