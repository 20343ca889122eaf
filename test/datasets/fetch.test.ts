// Downloads from a server on this machine that can break off, refuse, or serve other bytes.

import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { gzipSync } from 'node:zlib';
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { type FetchProgress, fetchDataset, fetchSource, SOURCES, type Source } from '../../src/datasets/fetch.ts';
import { FORMATS } from '../../src/datasets/index.ts';
import { scratch } from '../util/dataset-suite.ts';
import { cifarBytes, drawn, idxPair, put } from './writers.ts';

const md5 = (bytes: Uint8Array): string => createHash('md5').update(bytes).digest('hex');

interface Request {
  readonly name: string;
  readonly range: string | undefined;
}

/** What the server does; set by each test. */
let served: Record<string, Uint8Array> = {};
let requests: Request[] = [];
let breakAt: number[] = []; // bytes after which the next answers break off
let pending: { bytes: number; cut: () => void } | null = null; // an answer to be cut once that much has arrived
let ranges = true;
let status = 200;
let server: Server;
let mirror = '';

beforeAll(async () => {
  server = createServer((request, response) => {
    const name = (request.url ?? '').split('/').at(-1)!;
    const { range } = request.headers;
    requests.push({ name, range });
    const bytes = served[name];
    if (bytes === undefined || status !== 200) {
      return response.writeHead(bytes === undefined ? 404 : status).end('no');
    }
    const from = ranges && range !== undefined ? Number(/^bytes=(\d+)-$/.exec(range)![1]) : 0;
    if (from >= bytes.length) {
      return response.writeHead(416, { 'content-range': `bytes */${bytes.length}` }).end();
    }
    const rest = bytes.subarray(from);
    const head = from > 0 ? { 'content-range': `bytes ${from}-${bytes.length - 1}/${bytes.length}` } : {};
    response.writeHead(from > 0 ? 206 : 200, { ...head, 'content-length': rest.length });
    const limit = breakAt.shift();
    if (limit === undefined) return response.end(rest);
    pending = { bytes: (ranges ? from : 0) + limit, cut: () => response.destroy() };
    return response.write(rest.subarray(0, limit));
  });
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done));
  mirror = `http://127.0.0.1:${(server.address() as AddressInfo).port}/some/folder`;
});
afterAll(() => new Promise((done) => server.close(done)));
beforeEach(() => {
  served = {};
  requests = [];
  breakAt = [];
  pending = null;
  ranges = true;
  status = 200;
});

/** Cuts the answer once its bytes are on the client's disk, so that the test does not depend on timing. */
const cutting = (progress: FetchProgress): void => {
  if (pending === null || progress.bytes < pending.bytes) return;
  pending.cut();
  pending = null;
};

const images = drawn([0, 1, 2, 0, 1, 2], 40, 50, 1, 3);
const NAMES = [
  'train-images-idx3-ubyte.gz',
  'train-labels-idx1-ubyte.gz',
  't10k-images-idx3-ubyte.gz',
  't10k-labels-idx1-ubyte.gz',
];

/** Serves a small set in IDX files and describes it. */
function idxSource(): Source {
  const packed = [...idxPair(images), ...idxPair(images.slice(0, 3))].map((bytes) => gzipSync(bytes));
  served = Object.fromEntries(NAMES.map((name, i) => [name, packed[i]!]));
  const files = NAMES.map((name) => ({ name, md5: md5(served[name]!) }));
  return { name: 'mnist', summary: '', format: 'idx', base: 'http://127.0.0.1:9/', files, root: '' };
}

describe('fetchSource', () => {
  const dirs = scratch();
  const target = async (): Promise<string> => join(await dirs.make(), 'set');

  test('downloads, unpacks, opens and leaves nothing else behind', async () => {
    const to = await target();
    const steps: string[] = [];
    const set = await fetchSource(idxSource(), to, { mirror, onProgress: (p) => steps.push(p.step) });
    expect([set.name, set.train.count, set.test?.count]).toEqual(['mnist', 6, 3]);
    expect(await readdir(to)).toEqual([...NAMES.map((n) => n.replace('.gz', '')), 'dataset.json'].sort());
    expect(await readdir(join(to, '..'))).toEqual(['set']);
    expect([...new Set(steps)]).toEqual(['download', 'unpack', 'check']);
  });

  test('a transfer that breaks off is continued where it stopped', async () => {
    const source = idxSource();
    breakAt = [100, 50];
    await fetchSource(source, await target(), { mirror, onProgress: cutting });
    const first = requests.filter((r) => r.name === NAMES[0]).map((r) => r.range);
    expect(first).toEqual([undefined, 'bytes=100-', 'bytes=150-']);
  });

  test('a server without ranges is read from the start again', async () => {
    const source = idxSource();
    breakAt = [100];
    ranges = false;
    expect((await fetchSource(source, await target(), { mirror, onProgress: cutting })).train.count).toBe(6);
    expect(requests.filter((r) => r.name === NAMES[0]).map((r) => r.range)).toEqual([undefined, 'bytes=100-']);
  });

  test('a cancelled download stops with E_CANCELLED and a later call continues it', async () => {
    const to = await target();
    const source = idxSource();
    breakAt = [200];
    const controller = new AbortController();
    const cancelled = fetchSource(source, to, {
      mirror,
      signal: controller.signal,
      onProgress: () => controller.abort(),
    });
    await expect(cancelled).rejects.toMatchObject({ code: 'E_CANCELLED' });
    expect(await readdir(join(to, '..'))).toEqual(['set.part']);
    requests = [];
    await fetchSource(source, to, { mirror });
    expect(requests[0]).toEqual({ name: NAMES[0], range: 'bytes=200-' });
  });

  test('a part that is already whole is kept when the server says so (416)', async () => {
    const to = await target();
    const source = idxSource();
    await put(`${to}.part`, { [`${NAMES[0]}.part`]: served[NAMES[0]!]! });
    expect((await fetchSource(source, to, { mirror })).train.count).toBe(6);
    expect(requests.filter((r) => r.name === NAMES[0])).toHaveLength(1); // answered 416
  });

  test('a part longer than the file is thrown away', async () => {
    const to = await target();
    const source = idxSource();
    await put(`${to}.part`, { [`${NAMES[0]}.part`]: Buffer.concat([served[NAMES[0]!]!, Buffer.from('more')]) });
    expect((await fetchSource(source, to, { mirror })).train.count).toBe(6);
  });

  test('a wrong checksum is E_DATA, the bytes are removed and nothing is installed', async () => {
    const to = await target();
    const source = idxSource();
    const right = served[NAMES[1]!]!;
    served[NAMES[1]!] = gzipSync('other bytes');
    await expect(fetchSource(source, to, { mirror })).rejects.toMatchObject({
      code: 'E_DATA',
      details: { path: join(`${to}.part`, NAMES[1]!) },
    });
    expect(await readdir(join(to, '..'))).toEqual(['set.part']);
    expect((await readdir(`${to}.part`)).sort()).toEqual([NAMES[0], 'unpacked'].sort());
    served[NAMES[1]!] = right;
    requests = [];
    expect((await fetchSource(source, to, { mirror })).train.count).toBe(6);
    expect(requests.map((r) => r.name)).toEqual(NAMES.slice(1)); // the first file was kept
  });

  test.each([404, 500])('HTTP status %i is E_DEVICE with reason download', async (code) => {
    const source = idxSource();
    if (code === 404) served = {};
    status = code;
    const refusal = { code: 'E_DEVICE', details: { reason: 'download', status: code } };
    await expect(fetchSource(source, await target(), { mirror })).rejects.toMatchObject(refusal);
    expect(requests).toHaveLength(code === 404 ? 1 : 4);
  });

  test('a server that is not there is E_DEVICE with reason download', async () => {
    const closed = createServer();
    await new Promise<void>((done) => closed.listen(0, '127.0.0.1', done));
    const { port } = closed.address() as AddressInfo;
    await new Promise((done) => closed.close(done));
    const to = await target();
    const fetching = fetchSource(idxSource(), to, { mirror: `http://127.0.0.1:${port}` });
    await expect(fetching).rejects.toMatchObject({ code: 'E_DEVICE', details: { reason: 'download' } });
    expect(await readdir(join(to, '..'))).toEqual(['set.part']);
  });

  test('an occupied destination is refused before anything is asked for, an empty one is used', async () => {
    const to = await target();
    await put(to, { 'precious.txt': 'x' });
    await expect(fetchSource(idxSource(), to, { mirror })).rejects.toMatchObject({
      code: 'E_CONFIG',
      details: { path: to },
    });
    expect(requests).toEqual([]);
    expect(readFileSync(join(to, 'precious.txt'), 'utf8')).toBe('x');
    const empty = await dirs.make();
    expect((await fetchSource(idxSource(), empty, { mirror })).train.count).toBe(6);
  });

  test('good checksums of a bad set install nothing', async () => {
    const to = await target();
    const source = idxSource();
    served[NAMES[0]!] = gzipSync('no IDX file at all');
    const files = NAMES.map((name) => ({ name, md5: md5(served[name]!) }));
    await expect(fetchSource({ ...source, files }, to, { mirror })).rejects.toMatchObject({ code: 'E_DATA' });
    expect(await readdir(join(to, '..'))).toEqual(['set.part']);
  });
});

describe('fetchSource of an archive', () => {
  const dirs = scratch();

  test('its inner folder becomes the destination', async () => {
    const dir = await dirs.make();
    const root = 'cifar-10-batches-bin';
    const batch = cifarBytes(drawn([0, 1, 2, 3, 4, 5, 6, 7, 8, 9], 32, 32, 3, 1), 1);
    for (const name of ['data_batch_1', 'data_batch_2', 'data_batch_3', 'data_batch_4', 'data_batch_5', 'test_batch'])
      await put(join(dir, root), { [`${name}.bin`]: batch });
    const names = Array.from({ length: 10 }, (_, i) => `name${i}\n`).join('');
    await put(join(dir, root), { 'batches.meta.txt': names });
    const made = spawnSync('tar', ['-czf', 'made.tar.gz', root], { cwd: dir });
    expect(made.status).toBe(0);
    served = { 'c.tar.gz': readFileSync(join(dir, 'made.tar.gz')) };
    const files = [{ name: 'c.tar.gz', md5: md5(served['c.tar.gz']!) }];
    const to = join(await dirs.make(), 'set');
    const source = { name: 'cifar10', summary: '', format: 'cifar10', base: 'x', files, root };
    const set = await fetchSource(source, to, { mirror });
    expect([set.train.count, set.test?.count]).toEqual([50, 10]);
    expect(await readdir(to)).toContain('test_batch.bin');
    expect(await readdir(join(to, '..'))).toEqual(['set']);
  });
});

describe('SOURCES', () => {
  test('are six well-formed sets in known formats', () => {
    expect(SOURCES.map((s) => s.name)).toEqual([
      'mnist',
      'fashion-mnist',
      'kmnist',
      'cifar10',
      'cifar100',
      'tiny-imagenet',
    ]);
    for (const source of SOURCES) {
      expect(FORMATS.some((f) => f.name === source.format)).toBe(true);
      expect(source.base).toMatch(/^https?:\/\/\S+\/$/);
      for (const file of source.files) expect(file.md5).toMatch(/^[0-9a-f]{32}$/);
    }
  });

  test('an unknown name is E_CONFIG and names the nearest', async () => {
    const refusal = { code: 'E_CONFIG', details: { nearest: 'fashion-mnist' } };
    await expect(fetchDataset('FashionMNIST', 'unused')).rejects.toMatchObject(refusal);
  });

  test('a mirror that serves another file under a known name is refused by its checksum', async () => {
    const dir = await scratchOnce();
    idxSource();
    await expect(fetchDataset('mnist', join(dir, 'set'), { mirror })).rejects.toMatchObject({ code: 'E_DATA' });
    expect(await readdir(dir)).toEqual(['set.part']);
  });

  const more = scratch();
  const scratchOnce = (): Promise<string> => more.make();
});
