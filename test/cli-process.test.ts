// What only a real process shows: signals, pipes that close, what is loaded. Runs the built package (dist/), which
// `npm test` builds first.

import { type ChildProcess, execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { cp, mkdtemp, readFile, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expect, test } from 'vitest';
import { writeReport } from '../src/report/index.ts';
import { fakeReport, fakeRunFolder } from './util/run-folder.ts';

const root = join(import.meta.dirname, '..');
const fixture = join(import.meta.dirname, 'fixtures', 'cli-child.mjs');
const program = join(root, 'dist', 'cli.js');
const skip = existsSync(join(root, 'dist', 'cli', 'main.js')) ? false : 'dist/ is not built';

interface Child {
  process: ChildProcess;
  text: { out: string; err: string };
  sees(part: string): Promise<void>;
  end: Promise<[code: number | null, signal: NodeJS.Signals | null]>;
}

function start(argv: string[]): Child {
  const child = spawn(process.execPath, [fixture, ...argv], { stdio: ['ignore', 'pipe', 'pipe'] });
  const text = { out: '', err: '' };
  child.stdout.on('data', (chunk) => {
    text.out += chunk;
  });
  child.stderr.on('data', (chunk) => {
    text.err += chunk;
  });
  const end = once(child, 'close') as Child['end'];
  const sees = async (part: string): Promise<void> => {
    while (!text.err.includes(part))
      await Promise.race([once(child.stderr, 'data'), end.then(() => Promise.reject(new Error(text.err)))]);
  };
  return { process: child, text, sees, end };
}

test.skipIf(skip).each([
  ['SIGINT', 130],
  ['SIGTERM', 143],
] as const)('%s stops the work, says how to go on and exits with %d', async (signal, code) => {
  const child = start(['run', 'slow', '--out', 'r']);
  await child.sees('working');
  child.process.kill(signal);
  expect(await child.end).toEqual([code, null]);
  expect(child.text.err).toContain('stopping after this step; press Ctrl-C again to kill');
  expect(child.text.err).toContain('to go on: lpld-native run slow --out r\n');
  expect(child.text.out).toBe('');
});

test.skipIf(skip)('a second Ctrl-C kills work that does not stop', async () => {
  const child = start(['run', 'deaf']);
  await child.sees('working');
  child.process.kill('SIGINT');
  await child.sees('stopping after this step');
  child.process.kill('SIGINT');
  expect(await child.end).toEqual([null, 'SIGINT']);
});

test.skipIf(skip)('with --json a stopped run prints the error as its one document', async () => {
  const child = start(['run', 'slow', '--json']);
  await child.sees('working');
  child.process.kill('SIGINT');
  expect(await child.end).toEqual([130, null]);
  expect(JSON.parse(child.text.out)).toMatchObject({ error: { code: 'E_CANCELLED' } });
});

test.skipIf(skip)('a reader that leaves before the output is no error', async () => {
  const child = spawn(process.execPath, [program, '--help'], { stdio: ['ignore', 'pipe', 'pipe'] });
  child.stdout.destroy();
  let err = '';
  child.stderr.on('data', (chunk) => {
    err += chunk;
  });
  expect(await once(child, 'exit')).toEqual([0, null]);
  expect(err).toBe('');
});

test.skipIf(skip).each([['--help'], ['squeeze', '--help'], ['presets', 'list'], ['data', 'list'], ['--version']])(
  'lpld-native %s %s loads no native addon of ours and no LibTorch',
  (...argv) => {
    const script = `
      process.on('exit', () => {
        const native = process.report.getReport().sharedObjects.filter((path) => /libtorch|libc10|lpld[^/]*[.](node|so)/.test(path));
        process.stderr.write('native: ' + JSON.stringify(native));
      });
      await import(${JSON.stringify(pathToFileURL(program).href)});`;
    const node = ['--input-type=module', '-e', script, 'lpld-native', ...argv.filter(Boolean)];
    const { status, stdout, stderr } = spawnSync(process.execPath, node, { encoding: 'utf8' });
    expect({ status, stderr }).toEqual({ status: 0, stderr: 'native: []' });
    expect(stdout.length).toBeGreaterThan(3);
  },
);

test.skipIf(skip)('`report` draws its charts and the process ends by itself', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'lpld-cli-'));
  try {
    await fakeRunFolder(dir, 2, 2, 8);
    await writeReport(dir, fakeReport(dir));
    await rm(join(dir, 'report.html'));
    const out = execFileSync(process.execPath, [program, 'report', dir, '--json'], {
      encoding: 'utf8',
      timeout: 20_000,
    });
    expect(JSON.parse(out)).toEqual({ html: join(dir, 'report.html') });
    expect(existsSync(join(dir, 'report.html'))).toBe(true);
  } finally {
    await rm(dir, { recursive: true });
  }
});

test('the bin of package.json is there and executable before anything is compiled, and says what to do then', async () => {
  const { bin, files } = JSON.parse(await readFile(join(root, 'package.json'), 'utf8')) as {
    bin: Record<string, string>;
    files: string[];
  };
  const launcher = bin['lpld-native']!.replace('./', '');
  expect(launcher).not.toMatch(/^dist/);
  expect(files).toContain(launcher);
  expect((await stat(join(root, launcher))).mode & 0o111).not.toBe(0);
  const clone = await mkdtemp(join(tmpdir(), 'lpld-clone-'));
  try {
    await cp(join(root, launcher), join(clone, launcher));
    const { status, stdout, stderr } = spawnSync(join(clone, launcher), ['doctor', '--json'], { encoding: 'utf8' });
    expect([status, stderr]).toEqual([4, expect.stringMatching(/^lpld-native: E_DEVICE: .*\n.*npm run bootstrap\n$/)]);
    expect(JSON.parse(stdout)).toMatchObject({ error: { code: 'E_DEVICE' } });
  } finally {
    await rm(clone, { recursive: true, force: true });
  }
});

test.skipIf(skip)('the bin of package.json is the program', () => {
  const { status, stdout } = spawnSync(join(root, 'scripts', 'lpld-native.mjs'), ['--version'], { encoding: 'utf8' });
  expect([status, stdout]).toEqual([0, expect.stringMatching(/^\d+\.\d+\.\d+\n$/)]);
});
