// Python, for checks against the programs this package exchanges files with. Nothing else needs it: where no interpreter
// has the modules, such a test is skipped and its name says so. PYTHON names the interpreter.

import { spawnSync } from 'node:child_process';
import { homedir } from 'node:os';
import { join } from 'node:path';

const found = new Map<string, string | null>();

/**
 * An interpreter that has some modules: $PYTHON, python3 on PATH, or one of an environment in the usual places.
 * @param modules - names to import; `module.attribute` is tried as written
 * @returns its path, or null
 */
export function pythonWith(...modules: string[]): string | null {
  const key = modules.join();
  const known = found.get(key);
  if (known !== undefined) return known;
  const places = [process.env.PYTHON, 'python3', join(homedir(), 'venv', 'bin', 'python')];
  const works = (python: string): boolean =>
    spawnSync(python, ['-c', `import ${modules.join(', ')}`], { stdio: 'ignore', timeout: 120_000 }).status === 0;
  const python = places.find((place) => place !== undefined && works(place)) ?? null;
  found.set(key, python);
  return python;
}

/** Runs a script and returns what it prints. @throws {Error} with its stderr if it fails */
export function runPython(python: string, script: string, args: readonly string[]): string {
  const done = spawnSync(python, ['-c', script, ...args], { encoding: 'utf8', timeout: 120_000, maxBuffer: 1 << 28 });
  if (done.status !== 0) throw new Error(`${python} ended with ${done.status}\n${done.stderr}`);
  return done.stdout;
}

/** What a skipped test says. */
export const withoutPython = (python: string | null, modules: string): string =>
  python === null ? ` (skipped: no Python with ${modules})` : '';
