// What the installation tests share: a home with a fake python3, and a look at what an installation left behind.

import { existsSync, readdirSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { expect } from 'vitest';
import { LpldError } from '../../src/errors.ts';
import type { InstallOptions } from '../../src/install.ts';
import { fakePython, scratch, type WheelSpec } from './fake-torch.ts';

export function setting(script = 'exit 1') {
  const home = scratch();
  const python = fakePython(home, script);
  const base = join(home, 'cache/lpld-native/libtorch');
  const lines: string[] = [];
  const options: InstallOptions = { variant: 'cpu', env: python.env, log: (line) => lines.push(line), lockWaitMs: 200 };
  return { home, python, base, lines, options };
}

export async function failure(work: Promise<unknown>): Promise<LpldError> {
  const error = await work.then(
    () => undefined,
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(LpldError);
  return error as LpldError;
}

/** What an installation left in the cache, downloads aside. */
export function remains(base: string): string[] {
  return existsSync(base) ? readdirSync(base).filter((name) => name !== '.downloads') : [];
}

export function listFiles(root: string): string[] {
  return (readdirSync(root, { recursive: true }) as string[]).filter((f) => statSync(join(root, f)).isFile()).sort();
}

export function replace(name: string, text: string): WheelSpec['edit'] {
  return (entries) => entries.map((entry) => (entry.name === name ? { ...entry, data: Buffer.from(text) } : entry));
}
