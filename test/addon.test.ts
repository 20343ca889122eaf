// Which addon is chosen for which LibTorch, and what is said when none fits. Loading itself is tested with the real one.

import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, describe, expect, test } from 'vitest';
import { hashSources } from '../scripts/build-native.mjs';
import { findAddon, listAddons, loadedNative, loadNative, requireHooks } from '../src/addon.ts';
import type { LpldError } from '../src/errors.ts';
import { setupCommand } from '../src/libtorch.ts';
import { fakeLibtorch, scratch, write } from './util/fake-torch.ts';

const PREBUILT = (minor: string) => `prebuilt/torch-${minor}/prebuilds/linux-x64/lpld-native.glibc.node`;

function addons(...files: [string, string?][]): string {
  const root = scratch();
  for (const [path, text] of files) write(join(root, path), text ?? 'ELF');
  return root;
}

function refusal(work: () => unknown): LpldError {
  try {
    work();
  } catch (e) {
    return e as LpldError;
  }
  throw new Error('nothing was thrown');
}

describe('choice of the addon', () => {
  test('the build here comes before a prebuilt one of the same minor; each minor finds its own', () => {
    const root = addons(
      ['build/Release/lpld.node'],
      ['build/Release/lpld-build.json', '{"minor":"2.13"}'],
      ['build/Release/liblpld_kernels.so'],
      ['build/Release/liblpld_graph.so'],
      [PREBUILT('2.13')],
      [PREBUILT('2.14')],
    );
    expect(findAddon('2.13', root)).toEqual({
      kind: 'build',
      path: join(root, 'build/Release/lpld.node'),
      minor: '2.13',
      kernels: join(root, 'build/Release/liblpld_kernels.so'),
      graph: join(root, 'build/Release/liblpld_graph.so'),
    });
    expect(findAddon('2.14', root)).toEqual({
      kind: 'prebuilt',
      path: join(root, PREBUILT('2.14')),
      minor: '2.14',
      kernels: null,
      graph: null,
    });
    expect(listAddons(root)).toHaveLength(3);
  });

  test('a prebuilt one serves where the build is for another minor', () => {
    const root = addons(
      ['build/Release/lpld.node'],
      ['build/Release/lpld-build.json', '{"minor":"2.12"}'],
      [PREBUILT('2.13')],
    );
    expect(findAddon('2.13', root).kind).toBe('prebuilt');
  });

  test.each([
    ['no record', []],
    ['a broken record', [['build/Release/lpld-build.json', '{"minor":']]],
    ['a record without a minor', [['build/Release/lpld-build.json', '{"minor":2.13}']]],
  ] as [string, [string, string][]][])('a build with %s is never chosen', (_what, extra) => {
    const root = addons(['build/Release/lpld.node'], ...extra);
    const error = refusal(() => findAddon('2.13', root));
    expect(error).toMatchObject({ code: 'E_DEVICE', details: { reason: 'no-addon' } });
  });

  test.each([
    ['another platform', 'darwin-arm64/lpld-native.node'],
    ['another C library', 'linux-x64/lpld-native.musl.node'],
  ])('a prebuild for %s is not seen', (_what, file) =>
    expect(listAddons(addons([`prebuilt/torch-2.13/prebuilds/${file}`]))).toEqual([]),
  );

  test('another minor: both are named, and the command', () => {
    const error = refusal(() => findAddon('2.14', addons([PREBUILT('2.13')])));
    expect(error).toMatchObject({
      code: 'E_DEVICE',
      details: { reason: 'libtorch-mismatch', libtorch: '2.14', addons: ['2.13'], command: 'npx lpld-native install' },
    });
    expect(error.message).toBe(
      'expected LibTorch 2.13, which it was built for, for the native addon but received "2.14"\nrun: npx lpld-native install',
    );
  });

  test('no addon at all', () => {
    expect(refusal(() => findAddon('2.13', scratch()))).toMatchObject({
      code: 'E_DEVICE',
      details: { reason: 'no-addon' },
    });
  });

  test('a clone sets itself up with its own script', () => {
    expect(setupCommand(addons(['scripts/bootstrap.mjs']))).toBe('npm run bootstrap');
  });
});

describe('loading', () => {
  const before = { ...process.env };
  afterEach(() => {
    process.env.LIBTORCH = before.LIBTORCH;
    if (before.LIBTORCH === undefined) delete process.env.LIBTORCH;
  });

  test('a wrong LIBTORCH, a CPU build asked for CUDA: refused before anything is loaded', () => {
    process.env.LIBTORCH = join(scratch(), 'nowhere');
    expect(refusal(() => loadNative())).toMatchObject({ code: 'E_DEVICE', details: { reason: 'libtorch-env' } });
    process.env.LIBTORCH = fakeLibtorch(join(scratch(), 'torch'));
    expect(refusal(() => loadNative('cuda'))).toMatchObject({ code: 'E_DEVICE', details: { reason: 'no-cuda' } });
    expect(loadedNative()).toBeNull();
  });

  test('libraries that are none are reported with their path', () => {
    const root = fakeLibtorch(join(scratch(), 'torch'));
    process.env.LIBTORCH = root;
    const error = refusal(() => loadNative());
    expect(error.code).toBe('E_DEVICE');
    if (error.details.reason === 'libtorch-load') expect(error.message).toContain(join(root, 'lib', 'libc10.so'));
    else expect(['no-addon', 'libtorch-mismatch']).toContain(error.details.reason);
    expect(loadedNative()).toBeNull();
  });
});

test('CUDA asked for after LibTorch had looked for it is refused; a device or a missing one is no such refusal', () => {
  const answering = (available: boolean, reason: string) => ({ cuda: () => ({ available, reason, devices: [] }) });
  const late = answering(false, 'this LibTorch is a CPU build, or its CUDA libraries were not loaded');
  expect(refusal(() => requireHooks(late))).toMatchObject({ code: 'E_DEVICE', details: { reason: 'cuda-late' } });
  requireHooks(answering(true, ''));
  requireHooks(answering(false, 'the CUDA runtime found no device (no GPU, or no driver)'));
});

test('the hash of the sources changes with a byte, a name and a new file, and not with the order of writing', () => {
  const make = (files: [string, string][]) => hashSources(addons(...files), ['CMakeLists.txt', 'native']) as string;
  const a = make([
    ['CMakeLists.txt', 'x'],
    ['native/a.cpp', '1'],
    ['native/b/c.cpp', '2'],
  ]);
  expect(
    make([
      ['native/b/c.cpp', '2'],
      ['native/a.cpp', '1'],
      ['CMakeLists.txt', 'x'],
      ['src/other.ts', ''],
    ]),
  ).toBe(a);
  const others = [
    make([
      ['CMakeLists.txt', 'x'],
      ['native/a.cpp', '1'],
      ['native/b/c.cpp', '3'],
    ]),
    make([
      ['CMakeLists.txt', 'x'],
      ['native/a.cpp', '1'],
      ['native/b/d.cpp', '2'],
    ]),
    make([
      ['CMakeLists.txt', 'x'],
      ['native/a.cpp', '12'],
      ['native/b/c.cpp', ''],
    ]),
    make([
      ['native/a.cpp', '1'],
      ['native/b/c.cpp', '2'],
    ]),
    make([
      ['CMakeLists.txt', 'x'],
      ['native/a.cpp', '1'],
      ['native/b/c.cpp', '2'],
      ['native/e.cpp', ''],
    ]),
  ];
  expect(new Set([a, ...others]).size).toBe(6);
});

test.each([
  ['is short', {}, '3000'],
  ['of the user stands', { GOMP_SPINCOUNT: '77' }, '77'],
  ['follows OMP_WAIT_POLICY of the user', { OMP_WAIT_POLICY: 'PASSIVE' }, '0'],
])('the spin count of OpenMP %s, and the environment is left as it was', async (_, given, spins) => {
  const { GOMP_SPINCOUNT: _count, OMP_WAIT_POLICY: _policy, ...rest } = process.env;
  const module = new URL('../dist/addon.js', import.meta.url).href;
  const code = `const before = process.env.GOMP_SPINCOUNT; (await import('${module}')).loadNative('cpu');
    console.log(process.env.GOMP_SPINCOUNT === before);`;
  const { stdout, stderr } = await promisify(execFile)(process.execPath, ['--input-type=module', '-e', code], {
    env: { ...rest, ...given, OMP_DISPLAY_ENV: 'VERBOSE' },
  });
  expect(stderr).toMatch(new RegExp(`GOMP_SPINCOUNT = '${spins}'`));
  expect(stdout.trim()).toBe('true');
});
