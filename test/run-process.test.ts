// What the machine does to a run, with the built program (dist/, which `npm test` builds first): a full disk, a folder
// that cannot be written, Ctrl-C. Each ends with the documented exit code, and the same command goes on from there.

import { execFileSync, type SpawnSyncReturns, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmod, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { openArtifact } from '../src/artifact.ts';
import { parseConfig } from '../src/config.ts';
import { runPipeline } from '../src/run.ts';
import { idsOf, optionsOf, tinySource } from './util/tiny.ts';

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 }); // whole runs, on a busy machine

const program = join(import.meta.dirname, '..', 'dist', 'cli.js');
// A label store of about 300 kB is what fills the small disks below; everything before it is far smaller.
const source = tinySource({ relabel: { epochs: 500, recordsPerShard: 1024, recipes: 'explicit' } });
const config = parseConfig(source);
const exact = ['--threads', '1', '--deterministic', '--progress', 'plain'];

let root = '';
let file = '';
let wanted: Record<string, string> = {};
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'lpld-process-'));
  file = join(root, 'config.json');
  await writeFile(file, JSON.stringify(source));
  await runPipeline(config, optionsOf(join(root, 'wanted')));
  wanted = await idsOf(join(root, 'wanted'), config);
});
afterAll(() => rm(root, { recursive: true, force: true }));

type Ended = SpawnSyncReturns<string>;
const run = (command: string, args: string[]): Ended => spawnSync(command, args, { encoding: 'utf8' });
const lpld = (out: string, options: string[] = exact): string[] => [program, 'run', file, '--out', out, ...options];

/** Runs a shell script with the program as "$@" in a mount namespace of its own: nothing it mounts is seen outside. */
const unshared = (script: string, args: string[], env: Record<string, string>): Ended =>
  spawnSync('unshare', ['-rm', 'bash', '-c', script, 'bash', process.execPath, ...args], {
    encoding: 'utf8',
    env: { ...process.env, ...env },
  });
const canMount = ((): boolean => {
  try {
    execFileSync('unshare', ['-rm', 'mount', '-t', 'tmpfs', 'none', '/mnt'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
})();
const needsMount = canMount ? '' : ' (skipped: this user may not mount)';

/** The one error of a run: its first line. */
function errorLine(err: string): string {
  const lines = err.split('\n').filter((line) => line.startsWith('lpld-native: E_'));
  expect(lines, err).toHaveLength(1);
  return lines[0]!;
}

test.skipIf(!canMount)(
  `a full disk is E_DEVICE with exit code 4, and with more space the run goes on${needsMount}`,
  async () => {
    const disk = join(root, 'disk');
    const copy = join(root, 'copy');
    await mkdir(disk);
    const script = `
    mount -t tmpfs -o size=260k none "$DISK" || exit 99
    "$@"; echo "code $?"
    cp -r "$DISK/run" "$COPY-full"
    mount -o remount,size=16m "$DISK" || exit 99
    echo "== again" >&2
    "$@"; echo "code $?"
    cp -r "$DISK/run" "$COPY"`;
    const { status, stdout, stderr } = unshared(script, lpld(join(disk, 'run')), { DISK: disk, COPY: copy });
    expect(status, stderr).toBe(0);
    expect(stdout.match(/code \d+/g)).toEqual(['code 4', 'code 0']);
    const [first, second] = stderr.split('== again') as [string, string];
    expect(errorLine(first)).toMatch(/E_DEVICE: ENOSPC/);
    expect(errorLine(first)).toContain(join(disk, 'run', 'relabel.partial'));
    expect(first).toContain('free some space and run the same command again');
    for (const stage of ['squeeze', 'synthesize'])
      expect((await openArtifact(join(`${copy}-full`, stage), { verify: true })).id).toBe(wanted[stage]);
    expect(await readdir(`${copy}-full`)).not.toContain('run.lock');
    expect(second).not.toContain('squeeze:'); // kept
    expect(second).toContain('relabel: resuming');
    expect(await idsOf(copy, config)).toEqual(wanted);
  },
);

test('a file larger than the limit of the process is E_DEVICE with exit code 4, and without the limit the run goes on', async () => {
  const out = join(root, 'limited');
  const limited = run('bash', ['-c', 'ulimit -f 64; exec "$@"', 'bash', process.execPath, ...lpld(out)]); // in KiB
  expect(limited.status, limited.stderr).toBe(4);
  expect(errorLine(limited.stderr)).toMatch(/E_DEVICE: EFBIG/);
  expect(errorLine(limited.stderr)).toContain(join(out, 'relabel.partial'));
  expect((await openArtifact(join(out, 'synthesize'), { verify: true })).id).toBe(wanted.synthesize);
  const again = run(process.execPath, lpld(out));
  expect(again.status, again.stderr).toBe(0);
  expect(again.stderr).not.toContain('squeeze:');
  expect(await idsOf(out, config)).toEqual(wanted);
});

test.skipIf(!canMount)(`a stage by itself on a read-only file system is E_DEVICE too${needsMount}`, async () => {
  const disk = join(root, 'readonly-stage');
  await mkdir(disk);
  const args = [program, 'squeeze', '--config', file, '--out', join(disk, 'teacher')];
  const { status, stderr } = unshared('mount -t tmpfs -o ro none "$DISK" || exit 99; exec "$@"', args, { DISK: disk });
  expect(status, stderr).toBe(4);
  expect(errorLine(stderr)).toMatch(/E_DEVICE: EROFS/);
});

test('a file where the run folder should be is the mistake of the command', () => {
  const { status, stderr } = run(process.execPath, lpld(file));
  expect(status, stderr).toBe(2);
  expect(errorLine(stderr)).toContain('expected a folder for --out');
  const below = run(process.execPath, lpld(join(file, 'run')));
  expect(below.status, below.stderr).toBe(2);
});

const isRoot = process.getuid?.() === 0;

test.skipIf(!canMount)(`a read-only file system is E_DEVICE with exit code 4${needsMount}`, async () => {
  const disk = join(root, 'readonly');
  await mkdir(disk);
  const script = 'mount -t tmpfs -o ro none "$DISK" || exit 99; exec "$@"';
  const { status, stdout, stderr } = unshared(script, lpld(join(disk, 'run'), ['--json']), { DISK: disk });
  expect(status, stderr).toBe(4);
  expect(errorLine(stderr)).toMatch(/E_DEVICE: EROFS/);
  expect(stderr).toContain('choose another folder');
  const document = JSON.parse(stdout) as { error: { code: string; details: { path: string } } };
  expect(document.error.code).toBe('E_DEVICE');
  expect(document.error.details.path).toContain(disk);
});

test.skipIf(isRoot && !canMount)('a folder one may not write to is E_DEVICE with exit code 4', async () => {
  const closed = join(root, 'closed');
  await mkdir(closed);
  await chmod(closed, 0o555);
  const plain = isRoot ? ['unshare', '-U'] : []; // root may write anywhere, but not from a user namespace of its own
  const [command, ...args] = [...plain, process.execPath, ...lpld(join(closed, 'run'))] as [string, ...string[]];
  const { status, stderr } = run(command, args);
  await chmod(closed, 0o755);
  expect(status, stderr).toBe(4);
  expect(errorLine(stderr)).toMatch(/E_DEVICE: EACCES/);
});

test('Ctrl-C in the middle of a job ends with 130, says how to go on, and the same command goes on', async () => {
  const out = join(root, 'stopped');
  const child = spawn(process.execPath, lpld(out, [...exact.slice(0, 3), '--progress', 'json', '--save-every', '0']), {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let err = '';
  let asked = false; // a second Ctrl-C would kill
  child.stderr.on('data', (chunk) => {
    err += chunk;
    if (asked || !err.includes('"event":"progress","stage":"synthesize"')) return;
    asked = child.kill('SIGINT');
  });
  expect(await once(child, 'close')).toEqual([130, null]);
  expect(err).toContain('E_CANCELLED: stopped by Ctrl-C');
  expect(err).toContain(`what is done is kept; to go on: lpld-native run ${file} --out ${out}`);
  expect(await readdir(out)).toContain('synthesize.partial');
  expect(await readdir(out)).not.toContain('run.lock');
  const again = run(process.execPath, lpld(out));
  expect(again.status, again.stderr).toBe(0);
  expect(again.stderr).toContain('synthesize: resuming');
  expect(await idsOf(out, config)).toEqual(wanted);
});

test('a run of the program and a run of the API give the same artifacts and reports', async () => {
  const out = join(root, 'program');
  const { status, stdout, stderr } = run(process.execPath, lpld(out, [...exact.slice(0, 3), '--quiet', '--json']));
  expect(status, stderr).toBe(0);
  expect(stderr).toBe('');
  expect(stdout.trimEnd().split('\n')).toHaveLength(1);
  const report = JSON.parse(stdout) as { stages: { folder: string; id: string }[] };
  expect(Object.fromEntries(report.stages.map(({ folder, id }) => [folder, id]))).toEqual(wanted);
  expect(JSON.parse(await readFile(join(out, 'report.json'), 'utf8'))).toEqual(report);
});
