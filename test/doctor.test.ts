// The doctor on machines that lack one thing after another: what it reports, and the one command it names.

import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type DoctorReport, diagnose, missingPackages, nodeSupported, renderDoctor } from '../src/doctor.ts';
import { findTool, parseCpuinfo } from '../src/doctor-probes.ts';
import { platformObstacle } from '../src/platform.ts';
import { fakeLibtorch, fakePython, scratch, write } from './util/fake-torch.ts';

const ADDON = 'prebuilt/torch-2.13/prebuilds/linux-x64/lpld-native.glibc.node';

/** A PATH with stand-ins for the named tools and nothing else. */
function machine(...tools: string[]) {
  const home = scratch();
  const bin = join(home, 'bin');
  for (const tool of tools) write(join(bin, tool), `#!/bin/sh\necho "${tool} (Something 9) 12.3.4"\n`, 0o755);
  return { home, env: { PATH: bin, HOME: home } as NodeJS.ProcessEnv, root: join(home, 'package') };
}

describe('what is missing decides the next step', () => {
  test('a bare machine: everything is null, one apt command names all packages', async () => {
    const { env, root } = machine();
    const report = await diagnose(env, root);
    expect(report.ok).toBe(false);
    expect(report.tools).toEqual({ compiler: null, cmake: null, make: null, python: null, pip: null });
    expect(report.libtorch.found).toBeNull();
    expect(report.libtorch.searched.map((s) => s.source)).toContain('cache');
    expect(report.addon).toEqual({ found: null, seen: [], problem: null, trial: null });
    expect(report.mend).toBe('sudo apt-get install g++ cmake make python3 python3-pip');
    expect(report.problems[0]).toBe('no LibTorch found');
  });

  test('tools but no LibTorch: install it', async () => {
    const { env, root } = machine('g++', 'cmake', 'ninja', 'python3');
    const report = await diagnose(env, root);
    expect(report.tools.compiler).toEqual({ path: join(env.PATH!, 'g++'), version: '12.3.4' });
    expect(report.mend).toBe('npx lpld-native install');
  });

  test('a wrong LIBTORCH comes before everything else', async () => {
    const { env, root, home } = machine('g++');
    const report = await diagnose({ ...env, LIBTORCH: join(home, 'gone') }, root);
    expect(report.mend).toBe('unset LIBTORCH');
    expect(report.libtorch.searched).toEqual([{ source: 'env', path: join(home, 'gone'), outcome: 'no such folder' }]);
    expect(report.problems[0]).toMatch(/^expected a LibTorch root/);
  });

  test('LibTorch without an addon: build it; no compiler: that first', async () => {
    const { env, root, home } = machine('cmake', 'make');
    const LIBTORCH = fakeLibtorch(join(home, 'torch'));
    const report = await diagnose({ ...env, LIBTORCH }, root);
    expect(report.problems).toEqual(['the native addon has not been built', 'missing tools: g++']);
    expect(report.mend).toBe('sudo apt-get install g++');
    write(join(env.PATH!, 'c++'), '#!/bin/sh\necho 12.2\n', 0o755);
    expect((await diagnose({ ...env, LIBTORCH }, root)).mend).toBe('npx lpld-native install');
  });

  test('an addon for another minor is named with its minor', async () => {
    const { env, root, home } = machine('c++', 'cmake', 'make');
    write(join(root, ADDON), 'ELF');
    const report = await diagnose({ ...env, LIBTORCH: fakeLibtorch(join(home, 'torch'), '2.14.1') }, root);
    expect(report.addon.problem).toBe('the native addon was built for LibTorch 2.13, not 2.14');
    expect(report.addon.seen).toMatchObject([{ kind: 'prebuilt', minor: '2.13' }]);
    expect(report.mend).toBe('npx lpld-native install');
  });

  test('LibTorch and a prebuilt addon: nothing to mend, no compiler needed', async () => {
    const { env, root, home } = machine();
    write(join(root, ADDON), 'ELF');
    const report = await diagnose({ ...env, LIBTORCH: fakeLibtorch(join(home, 'torch')) }, root);
    expect(report).toMatchObject({ ok: true, mend: null, problems: [], addon: { found: { minor: '2.13' } } });
    expect(renderDoctor(report)).toContain('everything needed is here');
  });
});

describe('the report', () => {
  test('survives JSON, and its text holds every problem and the next step', async () => {
    const { env, root } = machine('cmake');
    const report = await diagnose(env, root);
    expect(JSON.parse(JSON.stringify(report))).toEqual(report);
    const text = renderDoctor(report);
    for (const problem of report.problems) expect(text).toContain(`problem: ${problem}`);
    expect(text.trim().split('\n').at(-1)).toBe(`next: ${report.mend}`);
    for (const row of ['node', 'platform', 'compiler', 'libtorch', 'addon', 'cpu', 'memory', 'cuda'])
      expect(text).toMatch(new RegExp(`^${row} `, 'm'));
    expect(text).not.toMatch(/undefined|NaN|\[object/);
  });

  test('facts of this machine are plausible', async () => {
    const { env, root } = machine();
    const report: DoctorReport = await diagnose(env, root);
    expect(report.node.supported).toBe(true);
    expect(report.platform.glibc).toMatch(/^2\.\d+$/);
    expect(report.cpu.threads).toBeGreaterThanOrEqual(1);
    expect(report.memory.total).toBeGreaterThan(2 ** 28);
    expect(report.memory.available).toBeLessThanOrEqual(report.memory.total);
    expect(report.cuda.usable).toBe(false);
    expect(report.cuda.reason.length).toBeGreaterThan(10);
  });

  test('a broken tool counts as missing; python3 without pip has only pip missing', async () => {
    const { home, root } = machine();
    const { env } = fakePython(home, 'case "$ALL" in *pip*) exit 1;; esac; echo "Python 3.11.7"');
    write(join(home, 'bin/cmake'), '#!/bin/sh\nexit 3\n', 0o755);
    const report = await diagnose({ ...env, PATH: join(home, 'bin') }, root);
    expect(report.tools).toMatchObject({ cmake: null, pip: null, python: { version: '3.11.7' } });
  });
});

describe('probes', () => {
  test.each([
    ['20.18.9', false],
    ['v20.19.0', true],
    ['18.20.4', false],
    ['22.0.0', true],
    ['26.10.1', true],
  ])('Node %s', (version, supported) => expect(nodeSupported(version)).toBe(supported));

  test('packages follow from the tools and from what has to be done', () => {
    const none = { compiler: null, cmake: null, make: null, python: null, pip: null };
    const tool = { path: '/x', version: '1' };
    expect(missingPackages(none, { build: true, fetch: false })).toEqual(['g++', 'cmake', 'make']);
    expect(missingPackages(none, { build: false, fetch: true })).toEqual(['python3', 'python3-pip']);
    expect(missingPackages(none, { build: false, fetch: false })).toEqual([]);
    expect(missingPackages({ ...none, compiler: tool, python: tool }, { build: true, fetch: true })).toEqual([
      'cmake',
      'make',
      'python3-pip',
    ]);
  });

  test('processor features are whole words of the flags', () => {
    const text =
      'processor : 0\nmodel name\t: Xeon 8488C\nflags\t\t: fpu avx512f avx512bw avx512vl avx512_bf16 amx_bf16 amx_tile\n';
    const all = { model: 'Xeon 8488C', threads: 2, avx512: true, avx512Bf16: true, amxBf16: true };
    expect(parseCpuinfo(text, 2)).toEqual(all);
    expect(parseCpuinfo(text.replace('avx512vl ', '').replace('amx_bf16', 'amx_bf16x'), 2)).toEqual({
      ...all,
      avx512: false,
      amxBf16: false,
    });
    expect(parseCpuinfo('', 1)).toEqual({
      model: 'unknown',
      threads: 1,
      avx512: false,
      avx512Bf16: false,
      amxBf16: false,
    });
  });

  test('the first name that answers is taken', () => {
    const { env, home } = machine('clang++');
    write(join(home, 'bin/c++'), '#!/bin/sh\nexit 1\n', 0o755);
    expect(findTool(['c++', 'g++', 'clang++'], ['--version'], env)?.path).toBe(join(home, 'bin/clang++'));
  });

  test.each([
    ['linux', 'x64', '2.28', null],
    ['linux', 'x64', '2.36', null],
    ['linux', 'x64', '2.27', /glibc 2\.28 or newer .* received 2\.27/],
    ['linux', 'x64', null, /musl/],
    ['linux', 'arm64', '2.36', /linux on arm64/],
    ['darwin', 'arm64', null, /darwin/],
    ['win32', 'x64', null, /win32/],
  ])('platform %s %s glibc %s', (platform, arch, glibc, problem) => {
    const obstacle = platformObstacle(platform, arch, glibc);
    if (problem === null) expect(obstacle).toBeNull();
    else expect(obstacle).toMatch(problem);
  });
});

test('the doctor imports only Node and our own files, so it runs without node_modules', () => {
  const seen = new Set<string>();
  const visit = (file: string): void => {
    if (seen.has(file)) return;
    seen.add(file);
    const text = readFileSync(file, 'utf8');
    for (const [, types, target] of text.matchAll(/^(?:import|export)\s+(type\s)?[^'"]*?from\s+'([^']+)'/gm)) {
      if (types !== undefined || target!.startsWith('node:')) continue;
      expect(target, file).toMatch(/^\.\/.*\.ts$/);
      visit(join(file, '..', target!));
    }
  };
  visit(join(import.meta.dirname, '../src/doctor.ts'));
  expect([...seen].some((file) => file.endsWith('addon.ts'))).toBe(true);
  expect([...seen].every((file) => existsSync(file))).toBe(true);
});
