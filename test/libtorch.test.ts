// Where LibTorch is looked for, in which order, and what is refused.

import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { cudaDriver, cudaObstacle } from '../src/cuda.ts';
import { LpldError } from '../src/errors.ts';
import {
  cachedRoots,
  cacheRoot,
  examineRoot,
  locateLibtorch,
  minorOf,
  parseVersionPy,
  requireLibtorch,
  searchLibtorch,
} from '../src/libtorch.ts';
import { fakeLibtorch, fakePython, scratch, versionPy, write } from './util/fake-torch.ts';

function caught(work: () => unknown): LpldError {
  try {
    work();
  } catch (e) {
    expect(e).toBeInstanceOf(LpldError);
    return e as LpldError;
  }
  throw new Error('nothing was thrown');
}

describe('versions', () => {
  test.each([
    ['2.13.0+cpu', '2.13'],
    ['2.14.0.dev20260101+cu130', '2.14'],
    ['2.14.0a0+git1234', '2.14'],
    ['2.1', '2.1'],
    ['v2.13', null],
    ['', null],
    ['2', null],
  ])('minorOf %j is %j', (version, minor) => expect(minorOf(version)).toBe(minor));

  test('version.py of CPU and CUDA builds, old and new spelling', () => {
    expect(parseVersionPy(versionPy('2.13.0+cpu', null))).toEqual({ version: '2.13.0+cpu', cuda: null });
    expect(parseVersionPy(versionPy('2.13.0+cu130', '13.0'))).toEqual({ version: '2.13.0+cu130', cuda: '13.0' });
    expect(parseVersionPy('__version__ = "2.12.1"\ncuda = "12.8"\n')).toEqual({ version: '2.12.1', cuda: '12.8' });
    expect(parseVersionPy('version = 3\n')).toBeNull();
  });
});

describe('examineRoot', () => {
  test('says what is missing, one thing at a time', () => {
    const root = join(scratch(), 'torch');
    expect(examineRoot(root, 'env')).toBe('no such folder');
    mkdirSync(root);
    expect(examineRoot(root, 'env')).toBe('no lib/libc10.so');
    write(join(root, 'lib/libc10.so'), '');
    expect(examineRoot(root, 'env')).toBe('no lib/libtorch_cpu.so');
    write(join(root, 'lib/libtorch_cpu.so'), '');
    expect(examineRoot(root, 'env')).toMatch(/names a version/);
    write(join(root, 'version.py'), versionPy('2.10.0', null));
    expect(examineRoot(root, 'env')).toMatch(/2\.10\.0 is outside 2\.11 \.\. 2\.14/);
    write(join(root, 'version.py'), versionPy('2.11.0', null));
    expect(examineRoot(root, 'env')).toMatchObject({ version: '2.11.0', minor: '2.11', headers: false, cuda: null });
  });

  test('a CUDA build without its CUDA libraries counts as a CPU build', () => {
    const root = fakeLibtorch(join(scratch(), 'torch'), '2.13.0+cu130', '13.0');
    expect(examineRoot(root, 'cache')).toMatchObject({ cuda: '13.0', headers: true });
    rmSync(join(root, 'lib/libtorch_cuda.so'));
    expect(examineRoot(root, 'cache')).toMatchObject({ cuda: null });
  });

  test('the official archive has a build-version file', () => {
    const root = fakeLibtorch(join(scratch(), 'libtorch'));
    rmSync(join(root, 'version.py'));
    write(join(root, 'build-version'), '2.14.1+cu128\n');
    write(join(root, 'lib/libtorch_cuda.so'), '');
    expect(examineRoot(root, 'system')).toMatchObject({ version: '2.14.1+cu128', minor: '2.14', cuda: '12.8' });
  });
});

describe('search order', () => {
  function places() {
    const home = scratch();
    const inPython = fakeLibtorch(join(home, 'site', 'torch'), '2.12.0');
    const python = fakePython(home, `pwd > '${home}/python-cwd'; echo '${inPython}'`);
    const system = fakeLibtorch(join(home, 'opt', 'libtorch'), '2.14.0');
    const cached = join(home, 'cache/lpld-native/libtorch/2.13.0-cpu/torch');
    return { home, inPython, python, system, cached, options: { env: python.env, systemRoots: [system] } };
  }

  test('LIBTORCH, then the cache, then Python, then the system', () => {
    const p = places();
    fakeLibtorch(p.cached);
    const own = fakeLibtorch(join(p.home, 'own'), '2.11.0');
    expect(locateLibtorch({ ...p.options, env: { ...p.python.env, LIBTORCH: own } })).toMatchObject({
      source: 'env',
      root: own,
    });
    expect(locateLibtorch(p.options)).toMatchObject({ source: 'cache', root: p.cached });
    expect(p.python.calls(), 'python is asked only when nothing nearer is there').toEqual([]);
    rmSync(join(p.home, 'cache'), { recursive: true });
    expect(locateLibtorch(p.options)).toMatchObject({ source: 'python', root: p.inPython });
    rmSync(p.inPython, { recursive: true });
    expect(locateLibtorch(p.options)).toMatchObject({ source: 'system', root: p.system });
    rmSync(p.system, { recursive: true });
    const nothing = searchLibtorch(p.options);
    expect(nothing.found).toBeNull();
    expect(new Set(nothing.searched.map((s) => s.source))).toEqual(new Set(['cache', 'python', 'system']));
    expect(nothing.searched.every((s) => s.outcome !== 'used')).toBe(true);
  });

  test("Python's answer is remembered, and forgotten when its torch is gone", () => {
    const p = places();
    for (let i = 0; i < 3; i += 1) expect(locateLibtorch(p.options)).toMatchObject({ source: 'python' });
    expect(p.python.calls()).toHaveLength(1);
    rmSync(p.inPython, { recursive: true });
    expect(locateLibtorch(p.options)).toMatchObject({ source: 'system' });
    expect(p.python.calls()).toHaveLength(2);
  });

  test('python3 never imports torch and never looks into the working folder', () => {
    const p = places();
    locateLibtorch(p.options);
    expect(p.python.calls()[0]).toMatch(/find_spec/);
    expect(p.python.calls()[0]).not.toMatch(/import torch/);
    expect(readFileSync(join(p.home, 'python-cwd'), 'utf8')).toBe('/\n');
  });

  test.each([
    ['a missing folder', (root: string) => join(root, 'nowhere')],
    ['a folder without libraries', (root: string) => root],
    ['an unsupported version', (root: string) => fakeLibtorch(join(root, 'old'), '1.13.1')],
  ])('LIBTORCH set to %s is an error and never falls through', (_what, make) => {
    const p = places();
    fakeLibtorch(p.cached);
    const env = { ...p.python.env, LIBTORCH: make(scratch()) };
    const error = caught(() => locateLibtorch({ ...p.options, env }));
    expect(error.code).toBe('E_DEVICE');
    expect(error.details.reason).toBe('libtorch-env');
    expect(error.message).toMatch(/^expected a LibTorch root .* for LIBTORCH but received /);
    expect(p.python.calls()).toEqual([]);
  });

  test('an unsupported cached version is passed over and listed', () => {
    const p = places();
    fakeLibtorch(join(p.home, 'cache/lpld-native/libtorch/2.5.1-cpu/torch'), '2.5.1');
    const { found, searched } = searchLibtorch(p.options);
    expect(found).toMatchObject({ source: 'python' });
    expect(searched[0]).toMatchObject({ source: 'cache', outcome: expect.stringMatching(/outside/) });
  });

  test('nothing anywhere: the error lists every place and the command', () => {
    const home = scratch();
    const env = { PATH: join(home, 'empty'), HOME: home };
    const error = caught(() => requireLibtorch({ env, systemRoots: [join(home, 'opt')] }));
    expect(error.details.reason).toBe('no-libtorch');
    for (const text of [join(home, '.cache'), 'python3', join(home, 'opt'), 'run: '])
      expect(error.message).toContain(text);
  });
});

describe('the cache', () => {
  test('lies under XDG_CACHE_HOME if that is absolute, else under the home', () => {
    expect(cacheRoot({ XDG_CACHE_HOME: '/x/y', HOME: '/h' })).toBe('/x/y/lpld-native');
    expect(cacheRoot({ XDG_CACHE_HOME: 'relative', HOME: '/h' })).toBe('/h/.cache/lpld-native');
    expect(cacheRoot({ HOME: '/h' })).toBe('/h/.cache/lpld-native');
  });

  test('a driver prefers CUDA builds; then the pinned version, then the newest; other names are ignored', () => {
    const home = scratch();
    const base = join(home, 'lpld-native/libtorch');
    const names = ['2.13.0-cpu', '2.13.0-cu130', '2.14.1-cpu', '2.11.0-cpu', '2.14.0-cu128'];
    for (const name of [...names, '.new-1-x', '.downloads', 'run.lock', '2.13.0-cpu.bak'])
      mkdirSync(join(base, name), { recursive: true });
    const order = (driver: boolean) =>
      cachedRoots({ XDG_CACHE_HOME: home }, driver).map((root) => root.slice(base.length + 1, -'/torch'.length));
    expect(order(false)).toEqual(['2.13.0-cpu', '2.14.1-cpu', '2.11.0-cpu', '2.13.0-cu130', '2.14.0-cu128']);
    expect(order(true)).toEqual(['2.13.0-cu130', '2.14.0-cu128', '2.13.0-cpu', '2.14.1-cpu', '2.11.0-cpu']);
  });
});

describe('the CUDA driver', () => {
  const version =
    'NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build\nGCC version: 12\n';

  test('needs both the loaded module and libcuda', () => {
    const root = scratch();
    expect(cudaDriver(root, '')).toEqual({ version: null, libcuda: null, present: false });
    write(join(root, 'proc/driver/nvidia/version'), version);
    expect(cudaDriver(root, '')).toEqual({ version: '580.65.06', libcuda: null, present: false });
    const lib = write(join(root, 'elsewhere/libcuda.so.1'), '');
    expect(cudaDriver(root, `/nowhere:${join(root, 'elsewhere')}`)).toEqual({
      version: '580.65.06',
      libcuda: lib,
      present: true,
    });
    rmSync(join(root, 'proc'), { recursive: true });
    expect(cudaDriver(root, join(root, 'elsewhere')).present).toBe(false);
    write(join(root, 'dev/nvidiactl'), '');
    expect(cudaDriver(root, join(root, 'elsewhere'))).toEqual({ version: null, libcuda: lib, present: true });
  });

  test('the older kernel module spells its version otherwise', () => {
    const root = scratch();
    write(
      join(root, 'proc/driver/nvidia/version'),
      'NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.129.03  Thu\n',
    );
    expect(cudaDriver(root, '').version).toBe('535.129.03');
  });

  test('each obstacle has its own words; none is null', () => {
    const driver = { version: '580.65.06', libcuda: '/l/libcuda.so.1', present: true };
    expect(cudaObstacle(driver, '13.0')).toBeNull();
    expect(cudaObstacle(driver, null)).toMatch(/CPU build/);
    expect(cudaObstacle({ ...driver, version: '550.54' }, '13.0')).toMatch(/550\.54 is too old for CUDA 13\.0.*580/);
    expect(cudaObstacle({ ...driver, version: '550.54' }, '12.8')).toBeNull();
    expect(cudaObstacle({ version: null, libcuda: null, present: false }, '13.0')).toMatch(/no NVIDIA driver/);
    expect(cudaObstacle({ ...driver, libcuda: null, present: false }, '13.0')).toMatch(/libcuda/);
    expect(cudaObstacle({ ...driver, version: null, present: false }, '13.0')).toMatch(/no NVIDIA driver is loaded/);
  });
});
