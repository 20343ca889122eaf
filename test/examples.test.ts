// The examples as a user runs them: child processes that import the built package by its name (dist/, which `npm test`
// builds first), on sets so small that a run takes seconds.

import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { encodeImage } from '../src/datasets/images.ts';
import { put } from './datasets/writers.ts';
import { dice } from './util/hostile.ts';
import { tinySource } from './util/tiny.ts';

vi.setConfig({ testTimeout: 120_000, hookTimeout: 120_000 }); // whole runs, on a busy machine

const examples = join(import.meta.dirname, '..', 'examples');
const SIDE = 16;

let root = '';
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'lpld-examples-'));
  const roll = dice(11);
  for (const [split, count] of [
    ['train', 48],
    ['val', 24],
  ] as const)
    for (const [name, isUpper] of [
      ['lower', 0],
      ['upper', 1],
    ] as const)
      for (let i = 0; i < count; i++) {
        // the upper or the lower half is light: learned in seconds, and a flip does not change it
        const light = (y: number): number => (Number(y < SIDE / 2) === isUpper ? 180 : 20);
        const pixels = Uint8Array.from(
          { length: 3 * SIDE * SIDE },
          (_, p) => light(Math.floor(p / (3 * SIDE))) + roll(60),
        );
        await put(join(root, 'photos', split, name), {
          [`${String(i).padStart(3, '0')}.png`]: await encodeImage(pixels, SIDE, SIDE, 3, 'png'),
        });
      }
});
afterAll(() => rm(root, { recursive: true, force: true }));

const env = { ...process.env, OMP_WAIT_POLICY: 'passive' }; // all threads are used, beside other tests
const node = (args: string[]) => spawnSync(process.execPath, args, { cwd: root, encoding: 'utf8', env });

describe('distill-folder.mjs', () => {
  const args = (out: string) => [
    join(examples, 'distill-folder.mjs'),
    'photos',
    out,
    ...[
      '--size',
      '16',
      '--ipc',
      '2',
      '--iterations',
      '100',
      '--epochs',
      '20',
      '--teacher-epochs',
      '20',
      '--threads',
      '1',
    ],
  ];

  test('stopped by SIGINT in synthesis it ends with 130, and the same command goes on to a finished run', async () => {
    const child: ChildProcess = spawn(process.execPath, args('stopped'), { cwd: root });
    let text = '';
    let asked = false;
    for await (const chunk of child.stderr!.setEncoding('utf8')) {
      text += chunk;
      if (!asked && text.includes('synthesize: ')) asked = child.kill('SIGINT'); // once: a second one kills
    }
    const [code] = child.exitCode === null ? await once(child, 'exit') : [child.exitCode];
    expect([code, text]).toEqual([130, expect.stringContaining('E_CANCELLED')]);
    expect(existsSync(join(root, 'stopped', 'squeeze', 'manifest.json'))).toBe(true);

    const { status, stdout, stderr } = node(args('stopped'));
    expect(status, stderr).toBe(0);
    expect(stderr).not.toContain('squeeze: '); // kept
    const shares = [...stdout.matchAll(/^(teacher|student|random, soft|random, hard) +(\d+\.\d) %$/gm)];
    expect(shares.map(([, name]) => name)).toEqual(['teacher', 'student', 'random, soft', 'random, hard']);
    expect(Number(shares[0]![2])).toBeGreaterThan(80); // a label mixed up on the way would give about 50
    const report = JSON.parse(await readFile(join(root, 'stopped', 'report.json'), 'utf8')) as {
      images: { bytes: number; count: number };
    };
    expect(report.images.count).toBe(4);
    expect(stdout).toContain(`${report.images.bytes} bytes of images`);
  });

  test('a folder that is not there is E_DATA with exit code 3; no folder at all is usage', () => {
    const missing = node([join(examples, 'distill-folder.mjs'), 'nowhere', 'out']);
    expect([missing.status, missing.stderr]).toEqual([3, expect.stringContaining('E_DATA')]);
    const none = node([join(examples, 'distill-folder.mjs')]);
    expect([none.status, none.stderr]).toEqual([2, expect.stringContaining('usage')]);
  });
});

const python = process.env.PYTHON ?? 'python3';
const canRead = spawnSync(python, ['-c', 'import numpy, safetensors']).status === 0;

describe('a run from an ES module, its labels read elsewhere', () => {
  beforeAll(async () => {
    await writeFile(join(root, 'tiny.json'), JSON.stringify(tinySource()));
    const { status, stdout, stderr } = node([join(examples, 'use-from-esm.mjs'), 'tiny.json', 'esm']);
    expect(status, stderr).toBe(0);
    expect(stdout).toMatch(/^[01](\.\d+)? with \d+ bytes of labels\n$/);
  });

  test('use-from-esm.mjs leaves a finished run in its folder', async () => {
    const report = JSON.parse(await readFile(join(root, 'esm', 'report.json'), 'utf8')) as { labels: object };
    expect(report.labels).toMatchObject({ records: 20 });
  });

  test('use-from-cjs.cjs reads a record of the store', () => {
    const { status, stdout, stderr } = node([
      join(examples, 'use-from-cjs.cjs'),
      join('esm', 'prune'),
      join('esm', 'synthesize'),
    ]);
    expect(status, stderr).toBe(0);
    expect(stdout).toMatch(
      /^20 records, \d+ bytes, codec dense:f16\nrecord 0: 3 rows, pixels U8 \[3,1,8,8\]\nlogits of the first:( -?\d+\.\d\d){3}\n$/,
    );
  });

  test.skipIf(!canRead)('read-labels.py reads all of it with numpy and safetensors alone', () => {
    const args = [join(examples, 'read-labels.py'), join('esm', 'prune')];
    const { status, stdout, stderr } = spawnSync(python, args, { cwd: root, encoding: 'utf8' });
    expect(status, stderr).toBe(0);
    expect(stdout).toMatch(/^20 records, 60 rows of 3 classes, mean entropy \d\.\d{4} nats\n$/);
    expect(Number(/entropy (\S+)/.exec(stdout)![1])).toBeLessThanOrEqual(Math.log(3) + 1e-3);
  });
});
