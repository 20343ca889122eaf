// The kernels' emulation under AddressSanitizer and UBSan on odd sizes, every buffer as large as what it holds:
// scripts/gpu-probe.cpp linked with native/kernels/emulation.cpp. On a card the same program compares the kernels themselves
// with the emulation (scripts/gpu-probe.mjs). A library whose kernels miss a value must show.

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const root = join(import.meta.dirname, '..');
const hasCompiler = spawnSync('g++', ['--version']).status === 0;
const SANITIZE = ['-fsanitize=address,undefined', '-fno-sanitize-recover=all', '-g'];

describe.skipIf(!hasCompiler)(`the probe of the kernels${hasCompiler ? '' : ' (skipped: there is no g++)'}`, () => {
  let dir = '';
  let program = '';
  afterAll(() => rmSync(dir, { recursive: true, force: true }));
  const compile = (name: string, emulation: string, flags: readonly string[]): string => {
    const out = join(dir, name);
    const sources = [join(root, 'scripts', 'gpu-probe.cpp'), emulation];
    const common = [
      '-std=c++20',
      '-O1',
      '-ffp-contract=off',
      '-Wall',
      '-Wextra',
      '-Werror',
      `-I${join(root, 'native')}`,
    ];
    execFileSync('g++', [...flags, ...common, ...sources, '-rdynamic', '-o', out, '-ldl'], { encoding: 'utf8' });
    return out;
  };
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), 'lpld-kernel-probe-'));
    program = compile('probe', join(root, 'native', 'kernels', 'emulation.cpp'), SANITIZE);
  }, 240_000);

  test('no kernel steps outside its buffers, overflows or shifts too far', () => {
    const { status, stdout, stderr } = spawnSync(program, ['-', '-', 'quick'], { encoding: 'utf8' });
    expect(stderr).toBe('');
    expect(status).toBe(0);
    const rows = stdout.trim().split('\n');
    expect(JSON.parse(rows.at(-1)!)).toEqual({ cases: rows.length - 1, wrong: 0 });
    for (const kernel of ['norm_act', 'bn_match', 'crop_flip_roll', 'pixel_adam', 'record', 'render'])
      expect(rows.some((row) => row.includes(kernel))).toBe(true);
  });

  test('kernels that leave out their last value differ in the cases of that kernel', () => {
    mkdirSync(join(dir, 'kernels')); // found before native/
    const launch = readFileSync(join(root, 'native', 'kernels', 'launch.h'), 'utf8');
    const less = launch.replace('int64_t i = count - 1; i >= 0', 'int64_t i = count - 2; i >= 0');
    expect(less).not.toBe(launch);
    writeFileSync(join(dir, 'kernels', 'launch.h'), less);
    const short = compile('short', join(root, 'native', 'kernels', 'emulation.cpp'), [`-I${dir}`]);
    const { status, stdout } = spawnSync(short, ['-', '-', 'quick'], { encoding: 'utf8' });
    expect(status).toBe(1);
    const wrong = stdout
      .trim()
      .split('\n')
      .filter((row) => /"differ": [1-9]/.test(row));
    expect(wrong.some((row) => row.includes('crop_flip_roll'))).toBe(true);
    expect(wrong.some((row) => row.includes('norm_act'))).toBe(false); // launched as blocks
  }, 240_000);

  test('a library that is none, and one without the table, are refused', () => {
    const tried = (path: string) => spawnSync(program, [path, '-', 'quick'], { encoding: 'utf8' });
    expect(tried(join(dir, 'nowhere.so')).status).toBe(4);
    expect(spawnSync(program, [], { encoding: 'utf8' }).status).toBe(4);
  });
});
