import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { LOCK_FILE, lockRun } from '../src/run-lock.ts';
import { refusal, scratch } from './util/hostile.ts';

const content = (dir: string): { pid: number; host: string; startedAt: string; process: string } =>
  JSON.parse(readFileSync(join(dir, LOCK_FILE), 'utf8'));

test('the lock says who, where and since when, and is gone after release', () => {
  const dir = join(scratch(), 'new/run');
  const lock = lockRun(dir);
  expect(lock.message).toBeNull();
  expect(content(dir)).toMatchObject({ pid: process.pid, host: hostname() });
  expect(Date.parse(content(dir).startedAt)).toBeLessThanOrEqual(Date.now());
  lock.release();
  expect(readdirSync(dir)).toEqual([]);
  lock.release();
});

test('a held folder is refused by pid, also to the same process, and free again afterwards', async () => {
  const dir = scratch();
  const lock = lockRun(dir);
  const error = await refusal(() => lockRun(dir));
  expect(error.code).toBe('E_CONFIG');
  expect(error.message).toContain(`run folder is in use by pid ${process.pid}`);
  expect(error.details).toMatchObject({ pid: process.pid, host: hostname() });
  lock.release();
  lockRun(dir).release();
  expect(readdirSync(dir)).toEqual([]);
});

test('the lock of a living process is respected, and broken with a message once it was killed', async () => {
  const dir = scratch();
  const other = spawn(process.execPath, ['-e', 'setInterval(() => {}, 1000)']);
  lockRun(dir);
  const stat = readFileSync(`/proc/${other.pid}/stat`, 'utf8');
  const tick = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  const own = content(dir);
  const theirs = { ...own, pid: other.pid!, process: own.process.replace(/:.*/, `:${tick}`) };
  writeFileSync(join(dir, LOCK_FILE), JSON.stringify(theirs));
  expect((await refusal(() => lockRun(dir))).message).toContain(`in use by pid ${other.pid}`);
  const closed = once(other, 'exit');
  other.kill('SIGKILL');
  await closed;
  const lock = lockRun(dir);
  expect(lock.message).toContain(`process ${other.pid} is gone`);
  expect(content(dir).pid).toBe(process.pid);
  lock.release();
});

test('a pid that belongs to a later process is stale', () => {
  const dir = scratch();
  const held = lockRun(dir);
  const boot = content(dir).process.split(':')[0];
  writeFileSync(join(dir, LOCK_FILE), JSON.stringify({ ...content(dir), process: `${boot}:1` }));
  const lock = lockRun(dir);
  expect(lock.message).toContain(`pid ${process.pid} is another process now`);
  held.release(); // no longer theirs: leaves the new lock alone
  expect(content(dir).process).not.toBe(`${boot}:1`);
  expect(readdirSync(dir)).toEqual([LOCK_FILE]);
  lock.release();
});

test('a lock of another host is respected and the message says how to remove it', async () => {
  const dir = scratch();
  lockRun(dir);
  writeFileSync(join(dir, LOCK_FILE), JSON.stringify({ ...content(dir), host: 'elsewhere', pid: 1 }));
  const error = await refusal(() => lockRun(dir));
  expect(error.code).toBe('E_CONFIG');
  expect(error.message).toMatch(/on elsewhere since .* delete .*run\.lock/);
});

test.each(['', '{', 'null', '[]', '{"pid":"x"}', '{"pid":-1,"host":"a","startedAt":"","process":""}', '\0\0\0'])(
  'a damaged lock (%j) is broken with a message',
  (text) => {
    const dir = scratch();
    writeFileSync(join(dir, LOCK_FILE), text);
    const lock = lockRun(dir);
    expect(lock.message).toContain('it is damaged');
    lock.release();
    expect(readdirSync(dir)).toEqual([]);
  },
);

test('of many processes that find one stale lock exactly one takes it', async () => {
  const dir = scratch();
  writeFileSync(
    join(dir, LOCK_FILE),
    JSON.stringify({ pid: 2 ** 22, host: hostname(), startedAt: '', process: 'gone:1' }),
  );
  const script = new URL('../src/run-lock.ts', import.meta.url).pathname;
  // Each tries once at the same instant and then holds what it got until its input ends.
  const code = `import { runnerImport } from 'vite';
    const { module } = await runnerImport(${JSON.stringify(script)}, { configFile: false });
    process.stdout.write('ready\\n');
    process.stdin.once('data', () => {
      try { module.lockRun(${JSON.stringify(dir)}); process.stdout.write('got\\n'); } catch (e) { process.stdout.write(e.code + '\\n'); }
    });`;
  const all = Array.from({ length: 4 }, () => spawn(process.execPath, ['--input-type=module', '-e', code]));
  const lines = all.map((p) => {
    const out: string[] = [];
    p.stdout.on('data', (text) => out.push(...String(text).trim().split('\n')));
    return out;
  });
  const until = async (count: number): Promise<void> => {
    while (lines.some((out) => out.length < count)) await new Promise((r) => setTimeout(r, 5));
  };
  await until(1);
  for (const p of all) p.stdin.write('go\n');
  await until(2);
  expect(lines.map((out) => out[1]).sort()).toEqual(['E_CONFIG', 'E_CONFIG', 'E_CONFIG', 'got']);
  expect(content(dir).pid).toBe(all[lines.findIndex((out) => out[1] === 'got')]!.pid);
  for (const p of all) p.kill();
}, 30_000);

test('a folder that cannot be made is an error that names it', async () => {
  const dir = join(scratch(), 'file');
  writeFileSync(dir, '');
  expect((await refusal(() => lockRun(join(dir, 'run')))).details.path).toBe(join(dir, 'run'));
});
