// Golden files are small, say where they came from, and were made by the scripts that lie beside them.

import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { expect, test } from 'vitest';
import { golden } from '../util/golden.ts';

const folder = new URL('.', import.meta.url);
const files = readdirSync(folder).filter((name) => name.endsWith('.safetensors'));

test('there are golden files', () => {
  expect(files.length).toBeGreaterThan(10);
});

test('every script that is run asks for Pillow below 13, and says so to whoever sets up Python', () => {
  const scripts = readdirSync(folder).filter((name) => name.endsWith('.py'));
  const text = (name: string): string => readFileSync(new URL(name, folder), 'utf8');
  const run = scripts.map(text).filter((script) => script.includes("__name__ == '__main__'"));
  expect(run.length).toBeGreaterThan(1);
  for (const script of run) expect(script).toMatch(/^ {4}check_pillow\(\)$/m);
  expect(text('golden_util.py')).toMatch(/assert int\(PIL\.__version__\.split\('\.'\)\[0\]\) < 13, /);
  expect(text('make_golden.py')).toContain('Needs torch, torchvision,\n# Pillow < 13,');
  expect(text('../../CONTRIBUTING.md')).toContain('**Pillow below 13**');
});

test.each(files)('%s: below 200 kB, with versions, seed, date, and the hash of the present scripts', (name) => {
  expect(statSync(new URL(name, folder)).size).toBeLessThan(200_000);
  const made = golden(name.replace('.safetensors', '')).provenance;
  const { versions, seed, date, scripts, scriptSha256 } = JSON.parse(made.slice(made.indexOf('{'))) as {
    versions: Record<string, string>;
    seed: number;
    date: string;
    scripts: string[];
    scriptSha256: string;
  };
  expect(Object.keys(versions).sort()).toEqual(['numpy', 'pillow', 'torch', 'torchvision']);
  expect(Number(versions.pillow!.split('.')[0])).toBeLessThan(13); // Pillow 13 resizes in another order
  expect([seed, /^\d{4}-\d\d-\d\d$/.test(date)]).toEqual([20240925, true]);
  const hash = createHash('sha256');
  for (const script of scripts) hash.update(readFileSync(new URL(script, folder)));
  expect(hash.digest('hex'), 'the scripts changed: run `npm run golden` and review the difference').toBe(scriptSha256);
});
