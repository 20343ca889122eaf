// LibTorch is installed whole or not at all. Wheels are miniatures made here; pip is played by a shell script, and
// every argument it was given is looked at.

import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { LpldError } from '../src/errors.ts';
import { type InstallOptions, installLibtorch } from '../src/install.ts';
import { locateLibtorch } from '../src/libtorch.ts';
import { nvidiaRequirements } from '../src/pip.ts';
import { parseRecord } from '../src/wheel.ts';
import { fakePython, fakeWheel, scratch, type WheelSpec, wheelEntries, write, zipBytes } from './util/fake-torch.ts';

const CUDA_REQUIRES = [
  'filelock',
  'cuda-toolkit[cublas,cudart,cupti]==13.0.3; platform_system == "Linux"',
  'nvidia-cudnn-cu13==9.20.0.48; platform_system == "Linux"',
  'triton==3.7.1; platform_system == "Linux"',
];

function setting(script = 'exit 1') {
  const home = scratch();
  const python = fakePython(home, script);
  const base = join(home, 'cache/lpld-native/libtorch');
  const lines: string[] = [];
  const options: InstallOptions = { variant: 'cpu', env: python.env, log: (line) => lines.push(line), lockWaitMs: 200 };
  return { home, python, base, lines, options };
}

async function failure(work: Promise<unknown>): Promise<LpldError> {
  const error = await work.then(
    () => undefined,
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(LpldError);
  return error as LpldError;
}

/** What an installation left in the cache, downloads aside. */
function remains(base: string): string[] {
  return existsSync(base) ? readdirSync(base).filter((name) => name !== '.downloads') : [];
}

function listFiles(root: string): string[] {
  return (readdirSync(root, { recursive: true }) as string[]).filter((f) => statSync(join(root, f)).isFile()).sort();
}

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

function replace(name: string, text: string): WheelSpec['edit'] {
  return (entries) => entries.map((entry) => (entry.name === name ? { ...entry, data: Buffer.from(text) } : entry));
}

const NO_MATCH = 'echo "ERROR: No matching distribution found for torch" >&2; exit 1';

describe('downloads', () => {
  test("the +cpu build of the user's own indexes is asked for first, and a second install does nothing", async () => {
    const s = setting();
    const wheel = fakeWheel(join(s.home, 'index'));
    fakePython(s.home, `cp '${wheel}' "$DIR"`);
    const found = await installLibtorch(s.options);
    expect(found.version).toBe('2.13.0+cpu');
    const call = s.python.calls().join('\n');
    expect(call).toMatch(/^-m pip download torch==2\.13\.0\+cpu --no-deps --only-binary :all: -d /);
    expect(call).not.toMatch(/index-url/);
    expect(readdirSync(s.base)).toEqual(['2.13.0-cpu']);
    expect(await installLibtorch(s.options)).toEqual(found);
    expect(s.python.calls()).toHaveLength(1);
    await installLibtorch({ ...s.options, force: true });
    expect(s.python.calls()).toHaveLength(2);
  });

  test("then PyTorch's own index, which LPLD_TORCH_INDEX replaces", async () => {
    const s = setting();
    const wheel = fakeWheel(join(s.home, 'index'));
    fakePython(
      s.home,
      `case "$ALL" in *"--index-url https://mirror.example/cpu"*) cp '${wheel}' "$DIR";; *) ${NO_MATCH};; esac`,
    );
    const env = { ...s.python.env, LPLD_TORCH_INDEX: 'https://mirror.example/cpu' };
    expect(await installLibtorch({ ...s.options, env })).toMatchObject({ version: '2.13.0+cpu' });
    const calls = s.python.calls();
    const versions = calls.slice(1, -1).map((call) => /--python-version (\S+)/.exec(call)?.[1]);
    expect(versions, 'any CPython wheel will do').toEqual(['3.12', '3.11', '3.13', '3.10', '3.14']);
    expect(calls.at(-1)).toMatch(/torch==2\.13\.0\+cpu --index-url/);
  });

  test("else the CUDA build with the two libraries libtorch_cpu needs, at METADATA's version", async () => {
    const s = setting();
    const torch = fakeWheel(join(s.home, 'index'), { version: '2.13.0', cuda: '13.0', requires: CUDA_REQUIRES });
    const runtime = fakeWheel(join(s.home, 'index'), {
      name: 'nvidia-cuda-runtime',
      version: '13.0.96',
      files: { 'nvidia/__init__.py': '', 'nvidia/cu13/lib/libcudart.so.13': 'rt', 'nvidia/cu13/include/cuda.h': 'h' },
    });
    fakePython(
      s.home,
      `case "$ALL" in *"torch==2.13.0 "*) cp '${torch}' "$DIR";; *cuda-toolkit*) cp '${runtime}' "$DIR";; *) ${NO_MATCH};; esac`,
    );
    const found = await installLibtorch(s.options);
    expect(found).toMatchObject({ version: '2.13.0', cuda: null });
    expect(s.python.calls().at(-1)).toMatch(
      /download cuda-toolkit\[cudart,cupti\]==13\.0\.3; platform_system == "Linux" /,
    );
    expect(s.python.calls().at(-1)).not.toMatch(/cublas|cudnn|triton|--no-deps/);
    const files = listFiles(join(s.base, '2.13.0-cpu'));
    expect(files).toContain('nvidia/cu13/lib/libcudart.so.13');
    expect(files.filter((f) => /cuda\.so|cuda\.h|__init__/.test(f))).toEqual([]);
    expect(remains(s.base)).toEqual(['2.13.0-cpu']);
  });

  test('--cuda keeps the CUDA libraries beside torch and skips a CPU build pip offers', async () => {
    const s = setting();
    const index = join(s.home, 'index');
    const cpu = fakeWheel(index);
    const torch = fakeWheel(index, { version: '2.13.0', cuda: '13.0', requires: CUDA_REQUIRES });
    const cudnn = fakeWheel(index, {
      name: 'nvidia-cudnn-cu13',
      version: '9.20.0.48',
      files: { 'nvidia/cudnn/lib/libcudnn.so.9': 'dnn' },
    });
    const script = (last: string) =>
      `case "$ALL" in *+cu130*) cp '${cpu}' "$DIR";; *"torch==2.13.0 "*) cp '${last}' "$DIR";; *nvidia-cudnn-cu13*) cp '${cudnn}' "$DIR";; esac`;
    fakePython(s.home, script(cpu));
    expect((await failure(installLibtorch({ ...s.options, variant: 'cuda' }))).details.reason).toBe('download');
    expect(remains(s.base)).toEqual([]);
    fakePython(s.home, script(torch));
    const found = await installLibtorch({ ...s.options, variant: 'cuda' });
    expect(found).toMatchObject({ root: join(s.base, '2.13.0-cu130', 'torch'), cuda: '13.0' });
    expect(s.python.calls().at(-1)).toMatch(
      /cuda-toolkit\[cublas,cudart,cupti\]==13\.0\.3.* nvidia-cudnn-cu13==9\.20\.0\.48/,
    );
    expect(listFiles(join(s.base, '2.13.0-cu130'))).toContain('nvidia/cudnn/lib/libcudnn.so.9');
  });

  test.each([
    [
      'a refused connection',
      'echo "WARNING: Retrying: ConnectionError(refused)" >&2; echo "ERROR: none" >&2; exit 1',
      'download',
      3,
    ],
    ['no such version', NO_MATCH, 'download', 18],
    ['pip without a reason', 'exit 2', 'download', 3],
    ['no pip', 'echo "/usr/bin/python3: No module named pip" >&2; exit 1', 'no-pip', 1],
    ['a full disk', 'echo "ERROR: [Errno 28] No space left on device" >&2; exit 1', 'ENOSPC', 1],
    ['a wrong wheel', 'echo x > "$DIR/torch-2.12.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl"', 'download', 3],
    [
      'a page instead of a wheel',
      'echo x > "$DIR/torch-2.13.0+cpu-cp311-cp311-manylinux_2_28_x86_64.whl"',
      'bad-wheel',
      1,
    ],
  ])('%s: one clear error, nothing installed, no endless retries', async (_what, script, reason, calls) => {
    const s = setting(script);
    const error = await failure(installLibtorch(s.options));
    expect(error).toMatchObject({ code: 'E_DEVICE', details: { reason } });
    expect(error.message.length).toBeGreaterThan(20);
    expect(s.python.calls()).toHaveLength(calls);
    expect(remains(s.base)).toEqual([]);
  });

  test('no python3 at all names the packages to install', async () => {
    const s = setting();
    const env = { ...s.python.env, PATH: join(s.home, 'nothing') };
    const error = await failure(installLibtorch({ ...s.options, env }));
    expect(error.details.reason).toBe('no-python');
    expect(error.message).toMatch(/apt-get install python3 python3-pip/);
  });

  test('a finished download is used again; a damaged one is thrown away and fetched', async () => {
    const s = setting();
    const kept = fakeWheel(join(s.base, '.downloads'));
    await installLibtorch(s.options);
    expect(s.python.calls()).toEqual([]);
    const good = readFileSync(fakeWheel(join(s.home, 'index')));
    write(kept, good.subarray(0, good.length / 2));
    fakePython(s.home, `cp '${join(s.home, 'index')}'/*.whl "$DIR"`);
    await installLibtorch({ ...s.options, force: true });
    expect(s.python.calls()).toHaveLength(1);
    expect(existsSync(join(s.base, '.downloads'))).toBe(false);
  });

  test('a download that fails its sums is not kept for the next try', async () => {
    const s = setting();
    fakeWheel(join(s.base, '.downloads'), { edit: replace('torch/lib/libc10.so', 'c10 bytez') });
    expect((await failure(installLibtorch(s.options))).details.reason).toBe('bad-wheel');
    expect(readdirSync(join(s.base, '.downloads'))).toEqual([]);
  });

  test('an abort ends pip and leaves nothing', async () => {
    const s = setting(`echo $$ > "$DIR/../../pid"; exec sleep 60`);
    const abort = new AbortController();
    const work = failure(installLibtorch({ ...s.options, signal: abort.signal }));
    const pidFile = join(s.base, '../pid');
    while (!existsSync(pidFile) || readFileSync(pidFile, 'utf8') === '')
      await new Promise((done) => setTimeout(done, 10));
    abort.abort();
    expect((await work).code).toBe('E_CANCELLED');
    const commandLine = `/proc/${Number(readFileSync(pidFile, 'utf8'))}/cmdline`;
    await expect.poll(() => (existsSync(commandLine) ? readFileSync(commandLine, 'utf8') : '')).not.toMatch(/sleep/);
    expect(remains(s.base)).toEqual([]);
  });
});

describe('several processes', () => {
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

  test('NVIDIA requirements of METADATA, all or those of the CPU half', () => {
    const old = [
      'nvidia-cuda-runtime-cu12==12.8.90; x',
      'nvidia-cublas-cu12==12.8.4',
      'nvidia-cuda-cupti-cu12==12.8.90',
    ];
    expect(nvidiaRequirements(CUDA_REQUIRES, false)).toEqual(CUDA_REQUIRES.slice(1, 3));
    expect(nvidiaRequirements(CUDA_REQUIRES, true)).toEqual([
      'cuda-toolkit[cudart,cupti]==13.0.3; platform_system == "Linux"',
    ]);
    expect(nvidiaRequirements(old, true)).toEqual([old[0], old[2]]);
    expect(nvidiaRequirements(['nvidia-x==1; extra == "all"', 'numpy', 'my-nvidia-thing'], false)).toEqual([]);
  });
});
