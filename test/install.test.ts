// LibTorch is installed whole or not at all: wheels from disk, hostile ones too, and installations that meet.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { LpldError } from '../src/errors.ts';
import { installLibtorch } from '../src/install.ts';
import { locateLibtorch } from '../src/libtorch.ts';
import { parseRecord } from '../src/wheel.ts';
import { fakePython, fakeWheel, type WheelSpec, wheelEntries, write, zipBytes } from './util/fake-torch.ts';
import { failure, listFiles, remains, replace, setting } from './util/install-setting.ts';

describe('--from a wheel', () => {
  test('unpacks libraries, headers and proofs, and nothing that Python would run', async () => {
    const s = setting();
    const files = { 'torch/bin/protoc': 'x', 'torch/lib/libtorch_python.so': 'p', 'torch/include/a,b.h': 'x' };
    const from = fakeWheel(s.home, { files });
    const found = await installLibtorch({ ...s.options, from });
    expect(found).toMatchObject({ source: 'cache', version: '2.13.0+cpu', minor: '2.13', cuda: null, headers: true });
    const folder = join(s.base, '2.13.0-cpu');
    expect(found.root).toBe(join(folder, 'torch'));
    expect(listFiles(folder)).toEqual([
      'torch-2.13.0+cpu.dist-info/METADATA',
      'torch-2.13.0+cpu.dist-info/RECORD',
      'torch/include/ATen/ATen.h',
      'torch/include/a,b.h',
      'torch/lib/libc10.so',
      'torch/lib/libtorch_cpu.so',
      'torch/lib/libtorch_python.so',
      'torch/version.py',
    ]);
    expect(readFileSync(join(folder, 'torch/lib/libtorch_cpu.so'), 'utf8')).toBe('cpu bytes '.repeat(500));
    expect(statSync(join(folder, 'torch/lib/libc10.so')).mode & 0o777).toBe(0o755);
    expect(statSync(join(folder, 'torch/version.py')).mode & 0o777).toBe(0o644);
    expect(remains(s.base)).toEqual(['2.13.0-cpu']);
    expect(s.python.calls()).toEqual([]);
    expect(locateLibtorch({ env: s.python.env, systemRoots: [] })?.root).toBe(found.root);
  });

  test('takes any supported version, replaces an older installation of the same name', async () => {
    const s = setting();
    const first = await installLibtorch({ ...s.options, from: fakeWheel(s.home, { version: '2.12.1+cpu' }) });
    write(join(first.root, 'stale'), '');
    await installLibtorch({ ...s.options, from: fakeWheel(s.home, { version: '2.12.1+cpu' }) });
    expect(remains(s.base)).toEqual(['2.12.1-cpu']);
    expect(existsSync(join(first.root, 'stale'))).toBe(false);
  });

  const hostile: [string, WheelSpec, RegExp][] = [
    ['a changed byte', { edit: replace('torch/lib/libtorch_cpu.so', 'cpu bytez '.repeat(500)) }, /SHA-256/],
    ['a shortened file', { edit: replace('torch/lib/libc10.so', 'c10') }, /3 bytes where RECORD says 9/],
    [
      'a file outside RECORD',
      { edit: (e) => [...e, { name: 'torch/lib/extra.so', data: Buffer.from('x') }] },
      /does not name/,
    ],
    [
      'a file RECORD misses',
      { edit: (e) => e.filter((x) => x.name !== 'torch/lib/libc10.so') },
      /lacks torch\/lib\/libc10/,
    ],
    ['a file without a sum', { record: (l) => l.map((x) => x.replace(/(libc10\.so),.*/, '$1,,')) }, /no SHA-256/],
    ['a climbing name', { files: { 'torch/lib/../../../evil': 'x' } }, /invalid|outside/i],
    [
      'an absolute name',
      { edit: (e) => [...e, { name: '/torch/lib/evil', data: Buffer.from('x') }] },
      /absolute|invalid/i,
    ],
    [
      'a name with a backslash',
      { files: { 'torch/lib/..\\..\\evil': 'x' } },
      /invalid|does not name|lacks|twice|characters/i,
    ],
    [
      'a link',
      { edit: (e) => [...e, { name: 'torch/lib/l.so', data: Buffer.from('/etc/passwd'), mode: 0o120777 }] },
      /link/,
    ],
    ['a repeated name', { edit: (e) => [...e, e[0]!] }, /twice/],
    ['no RECORD', { edit: (e) => e.filter((x) => !x.name.endsWith('RECORD')) }, /RECORD/],
    ['no METADATA', { edit: (e) => e.filter((x) => !x.name.endsWith('METADATA')) }, /METADATA/],
    ['another package', { name: 'numpy' }, /numpy/],
    ['another processor', { tag: 'cp311-cp311-manylinux_2_28_aarch64' }, /aarch64/],
    ['another system', { tag: 'cp311-cp311-win_amd64' }, /win_amd64/],
  ];
  test.each(hostile)('%s: E_DEVICE bad-wheel, nothing installed', async (_what, spec, message) => {
    const s = setting();
    const from = fakeWheel(s.home, spec);
    const before = listFiles(s.home);
    const error = await failure(installLibtorch({ ...s.options, from }));
    expect(error.message).toMatch(message);
    expect(error).toMatchObject({ code: 'E_DEVICE', details: { reason: 'bad-wheel', path: from } });
    expect(remains(s.base)).toEqual([]);
    expect(listFiles(s.home)).toEqual(before);
  });

  test('a wheel cut off anywhere is refused', async () => {
    const s = setting();
    const whole = zipBytes(wheelEntries());
    for (const share of [0, 0.1, 0.5, 0.9, 0.999]) {
      const from = write(join(s.home, 'torch-cut.whl'), whole.subarray(0, Math.floor(whole.length * share)));
      expect(await failure(installLibtorch({ ...s.options, from }))).toMatchObject({
        details: { reason: 'bad-wheel' },
      });
      expect(remains(s.base)).toEqual([]);
    }
  });

  test('one flipped bit anywhere is refused or changes nothing that is installed', async () => {
    const s = setting();
    const good = await installLibtorch({ ...s.options, from: fakeWheel(s.home) });
    const contents = (root: string) => listFiles(root).map((f) => [f, readFileSync(join(root, f), 'base64')]);
    const wanted = contents(good.root);
    const whole = zipBytes(wheelEntries());
    let refused = 0;
    for (let at = 11; at < whole.length; at += 131) {
      const bytes = Buffer.from(whole);
      bytes[at]! ^= 1 << (at % 8);
      const from = write(join(s.home, 'flipped.whl'), bytes);
      const outcome = await installLibtorch({ ...s.options, from }).catch((e: unknown) => e);
      if (outcome instanceof LpldError) refused += 1;
      expect(contents(good.root)).toEqual(wanted);
      expect(remains(s.base)).toEqual(['2.13.0-cpu']);
    }
    expect(refused).toBeGreaterThan(20);
  });

  test('a version outside the supported range is named', async () => {
    const s = setting();
    const error = await failure(installLibtorch({ ...s.options, from: fakeWheel(s.home, { version: '2.9.0+cpu' }) }));
    expect(error).toMatchObject({ code: 'E_DEVICE', details: { reason: 'wrong-version', version: '2.9.0+cpu' } });
    expect(error.message).toMatch(/^expected torch 2\.11 \.\. 2\.14 for torch-2\.9\.0.* but received "2\.9\.0\+cpu"/);
    expect(remains(s.base)).toEqual([]);
  });

  test('a missing file names its path', async () => {
    const s = setting();
    const error = await failure(installLibtorch({ ...s.options, from: join(s.home, 'none.whl') }));
    expect(error).toMatchObject({ code: 'E_DATA', details: { path: join(s.home, 'none.whl') } });
  });

  test('a cache folder that cannot be made is named, with what to do', async () => {
    const s = setting();
    write(join(s.home, 'cache'), 'a file where a folder should be');
    const error = await failure(installLibtorch({ ...s.options, from: fakeWheel(s.home) }));
    expect(error).toMatchObject({ code: 'E_DEVICE', details: { path: s.base } });
    expect(error.message).toMatch(/XDG_CACHE_HOME/);
  });

  test('--cuda with a CPU wheel is refused', async () => {
    const s = setting();
    const error = await failure(installLibtorch({ ...s.options, variant: 'cuda', from: fakeWheel(s.home) }));
    expect(error.details.reason).toBe('wrong-variant');
    expect(remains(s.base)).toEqual([]);
  });
});

describe('installations that meet', () => {
  test('two installations at once download once and agree', async () => {
    const s = setting();
    const wheel = fakeWheel(join(s.home, 'index'));
    fakePython(s.home, `sleep 0.5; cp '${wheel}' "$DIR"`);
    const both = await Promise.all([1, 2].map(() => installLibtorch({ ...s.options, lockWaitMs: 20_000 })));
    expect(both[0]).toEqual(both[1]);
    expect(s.python.calls()).toHaveLength(1);
    expect(s.lines.join('\n')).toMatch(/waiting for process/);
  });

  const lockText = (pid: number, host: string) =>
    `${JSON.stringify({ pid, host, startedAt: '2026-01-01T00:00:00.000Z', process: '' })}\n`;

  test('the lock of a process that is gone is broken with a message, and its leftovers are removed', async () => {
    const s = setting();
    const { pid } = spawnSync('true');
    mkdirSync(join(s.base, '.new-1-x/torch'), { recursive: true });
    mkdirSync(join(s.base, '.old-1-x'));
    writeFileSync(join(s.base, 'run.lock'), lockText(pid, hostname()));
    await installLibtorch({ ...s.options, from: fakeWheel(s.home) });
    expect(s.lines.join('\n')).toMatch(/stale lock/);
    expect(remains(s.base)).toEqual(['2.13.0-cpu']);
  });

  test.each([
    ['a living process', process.ppid, hostname()],
    ['another machine', 1, 'elsewhere.example'],
  ])('the lock of %s is waited for, then reported', async (_what, pid, host) => {
    const s = setting();
    mkdirSync(s.base, { recursive: true });
    writeFileSync(join(s.base, 'run.lock'), lockText(pid, host));
    const error = await failure(installLibtorch({ ...s.options, from: fakeWheel(s.home) }));
    expect(error).toMatchObject({ code: 'E_DEVICE', details: { reason: 'locked', pid, host } });
    expect(remains(s.base)).toEqual(['run.lock']);
  });
});

describe('tables', () => {
  test('RECORD lines: plain, quoted, without a sum', () => {
    const rows = parseRecord('a/b.py,sha256=AB-_9,12\r\n"c,""d"".h",sha256=zz=,0\nx.dist-info/RECORD,,\n\nnonsense\n');
    expect([...rows]).toEqual([
      ['a/b.py', { sha256: 'AB-_9', size: 12 }],
      ['c,"d".h', { sha256: 'zz', size: 0 }],
      ['x.dist-info/RECORD', { sha256: '', size: null }],
    ]);
  });
});
