// A few thousand cases of every target of `npm run fuzz`, whose full runs are in docs/results.md. A finding fails with the
// case's number, and its files are left in build/fuzz/. Runs the built package (dist/).

import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { expect, test } from 'vitest';

interface Result {
  readonly cases: number;
  readonly accepted: number;
  readonly refused: Readonly<Record<string, number>>;
  readonly findings: readonly { readonly index: number; readonly wrong: string }[];
}

/** Cases of each: what a few seconds hold. */
const COUNTS = { safetensors: 3000, pickle: 2000, store: 2000, image: 1000, json: 500, archive: 300, native: 2000 };

test.each(Object.entries(COUNTS))(
  '%s: %i damaged files are read or refused, no more',
  async (target, count) => {
    const script = join(import.meta.dirname, '..', 'scripts', 'fuzz.mjs');
    const args = [script, '--target', target, '--count', String(count), '--seed', '2', '--json'];
    const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    let [out, problem] = ['', ''];
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      out += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      problem += text;
    });
    const [code] = (await once(child, 'close')) as [number | null];
    expect(code, problem).toBe(0);
    const [result] = JSON.parse(out) as Result[];
    expect(result).toMatchObject({ cases: count, findings: [] });
    // Damage that is always refused, or never, would test the outermost check alone, or nothing.
    const refused = Object.values(result!.refused).reduce((sum, n) => sum + n, 0);
    expect(result!.accepted).toBeGreaterThan(count / 50);
    expect(refused).toBeGreaterThan(count / 5);
  },
  120_000,
);
