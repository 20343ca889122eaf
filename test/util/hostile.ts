// Helpers for tests that feed broken files: a folder per test, seeded mutations, and the check that only E_DATA comes out.

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished } from 'vitest';
import { LpldError } from '../../src/errors.ts';

/** A folder that is removed when the test ends. */
export function scratch(): string {
  const dir = mkdtempSync(join(tmpdir(), 'lpld-test-'));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  return dir;
}

/** Awaits a refusal and returns it. */
export async function refusal(work: () => unknown): Promise<LpldError> {
  try {
    await work();
  } catch (thrown) {
    expect(thrown).toBeInstanceOf(LpldError);
    return thrown as LpldError;
  }
  throw new Error('expected a refusal but the call succeeded');
}

/** Awaits E_DATA that names the path in its details. */
export async function badData(path: string, work: () => unknown): Promise<string> {
  const error = await refusal(work);
  expect(error.code, error.message).toBe('E_DATA');
  expect(error.details.path).toBe(path);
  return error.message;
}

/** Mulberry32: small seeded generator for test inputs only. Returns integers in [0, n). */
export function dice(seed: number): (n: number) => number {
  let a = seed >>> 0;
  return (n) => {
    a = (a + 0x6d2b79f5) >>> 0;
    let t = Math.imul(a ^ (a >>> 15), a | 1);
    t = (t + Math.imul(t ^ (t >>> 7), t | 61)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % n;
  };
}

/** A damaged copy: flipped bits, replaced bytes, a cut, an insertion, or a block copied elsewhere. */
export function mutate(bytes: Uint8Array, roll: (n: number) => number): Uint8Array {
  const copy = bytes.slice();
  const at = roll(copy.length);
  switch (roll(6)) {
    case 0:
      copy[at]! ^= 1 << roll(8);
      return copy;
    case 1:
      for (let i = 0; i < 1 + roll(8); i++) copy[roll(copy.length)] = roll(256);
      return copy;
    case 2:
      return copy.subarray(0, at);
    case 3: {
      const extra = Uint8Array.from({ length: 1 + roll(16) }, () => roll(256));
      return Uint8Array.from([...copy.subarray(0, at), ...extra, ...copy.subarray(at)]);
    }
    case 4:
      copy.copyWithin(roll(copy.length), at, at + 1 + roll(32));
      return copy;
    default:
      copy[at] = [0x00, 0x22, 0x30, 0x39, 0x7b, 0x7d, 0x80, 0xff][roll(8)]!;
      return copy;
  }
}
