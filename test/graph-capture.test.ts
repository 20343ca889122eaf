// What a failed capture of a CUDA graph leaves behind: nothing. native/kernels/graph.cpp as it is, compiled against a model
// of CUDA and LibTorch that counts (test/fixtures/graph-capture/libtorch.h), with every step failing in turn. A model shows
// that all is undone in every order of failures; that the steps are LibTorch's only a CUDA device shows.

import { execFileSync, spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

const root = join(import.meta.dirname, '..');
const fixture = join(import.meta.dirname, 'fixtures', 'graph-capture');
const hasCompiler = spawnSync('g++', ['--version']).status === 0;
const HEADERS = ['ATen/core/CachingHostAllocator.h', 'ATen/cuda/CUDAGraph.h', 'c10/cuda/CUDACachingAllocator.h'];
const CLEAN = { capturing: 0, graphs: 0, executables: 0, recording: 0, pools: 0, marks: 0, error: 0 };

describe.skipIf(!hasCompiler)(`a capture that fails${hasCompiler ? '' : ' (skipped: there is no g++)'}`, () => {
  let dir = '';
  let program = '';
  afterAll(() => rmSync(dir, { recursive: true, force: true }));
  beforeAll(() => {
    dir = mkdtempSync(join(tmpdir(), 'lpld-capture-'));
    for (const header of HEADERS) {
      mkdirSync(join(dir, dirname(header)), { recursive: true });
      writeFileSync(join(dir, header), '#include "libtorch.h"\n');
    }
    program = join(dir, 'capture');
    const flags = ['-std=c++20', '-g', '-fsanitize=address,undefined', '-fno-sanitize-recover=all'];
    const include = [`-I${dir}`, `-I${fixture}`, `-I${join(root, 'native')}`];
    execFileSync('g++', [...flags, ...include, join(fixture, 'main.cpp'), '-o', program], { encoding: 'utf8' });
  }, 120_000);

  interface Outcome {
    readonly held: typeof CLEAN;
    readonly left: typeof CLEAN;
    readonly answer: string;
    readonly thrown: string;
  }
  const capture = (...args: string[]): Outcome =>
    JSON.parse(execFileSync(program, args, { encoding: 'utf8' })) as Outcome;

  describe.each([
    ['LibTorch 2.13', []],
    ['LibTorch before 2.13', ['old']],
  ])('of %s', (_, version) => {
    test.each([
      ['begin-early', 'a default stream'],
      ['begin', 'CUDA error in cudaStreamBeginCapture'],
      ['begin-late', 'no capture id'],
      ['end-early', 'another stream'],
      ['end', 'CUDA error in cudaStreamEndCapture'],
      ['nodes', 'CUDA error in cudaGraphGetNodes'],
      ['instantiate', 'CUDA error in cudaGraphInstantiate'],
      ['forbidden', 'CUDA error: not permitted'],
      ['forbidden, unheard', 'CUDA error in cudaStreamEndCapture'],
    ])('at %s leaves nothing, and says why in one line', (step, why) => {
      expect(capture(step, ...version)).toEqual({ held: CLEAN, left: CLEAN, answer: why, thrown: '' });
    });

    test("by the body's own error leaves nothing, and the error passes through", () => {
      const wanted = { held: CLEAN, left: CLEAN, answer: '', thrown: 'out of memory' };
      expect(capture('body', ...version)).toEqual(wanted);
    });

    test('not at all is held until the graph goes', () => {
      const held = { ...CLEAN, executables: 1, pools: 2 };
      expect(capture('never', ...version)).toEqual({ held, left: CLEAN, answer: '', thrown: '' });
    });
  });
});
