// Fetching LibTorch with the user's pip, played by a shell script: what pip is asked, in which order, and every way it
// can fail. Nothing half-installed stays behind.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { installLibtorch } from '../src/install.ts';
import { nvidiaRequirements } from '../src/pip.ts';
import { fakePython, fakeWheel, write } from './util/fake-torch.ts';
import { failure, listFiles, remains, replace, setting } from './util/install-setting.ts';

const CUDA_REQUIRES = [
  'filelock',
  'cuda-toolkit[cublas,cudart,cupti]==13.0.3; platform_system == "Linux"',
  'nvidia-cudnn-cu13==9.20.0.48; platform_system == "Linux"',
  'triton==3.7.1; platform_system == "Linux"',
];

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

test('NVIDIA requirements of METADATA, all or those of the CPU half', () => {
  const old = ['nvidia-cuda-runtime-cu12==12.8.90; x', 'nvidia-cublas-cu12==12.8.4', 'nvidia-cuda-cupti-cu12==12.8.90'];
  expect(nvidiaRequirements(CUDA_REQUIRES, false)).toEqual(CUDA_REQUIRES.slice(1, 3));
  expect(nvidiaRequirements(CUDA_REQUIRES, true)).toEqual([
    'cuda-toolkit[cudart,cupti]==13.0.3; platform_system == "Linux"',
  ]);
  expect(nvidiaRequirements(old, true)).toEqual([old[0], old[2]]);
  expect(nvidiaRequirements(['nvidia-x==1; extra == "all"', 'numpy', 'my-nvidia-thing'], false)).toEqual([]);
});
