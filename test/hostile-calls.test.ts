// Calls that no TypeScript program makes but a JavaScript one can: refused with an error, never the end of the process.
// Each runs in a process of its own, since what goes wrong here is memory. Runs the built package (dist/).

import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';

const script = join(import.meta.dirname, 'fixtures', 'hostile-calls.mjs');
const names = JSON.parse(execFileSync(process.execPath, [script], { encoding: 'utf8' })) as string[];

async function run(name: string): Promise<{ ending: string; result: { code?: string; message?: string } | null }> {
  const child = spawn(process.execPath, [script, name], { stdio: ['ignore', 'pipe', 'ignore'], timeout: 60_000 });
  let out = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    out += text;
  });
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  return { ending: String(code ?? signal), result: out === '' ? null : JSON.parse(out) };
}

describe.concurrent('hostile calls', { timeout: 120_000 }, () => {
  test.each(names)('%s', async (name) => {
    const { ending, result } = await run(name);
    expect(ending).toBe('0');
    if (name.includes('after a refused')) expect(result).toEqual({ code: 'Error', message: 'as before' });
    else expect(result?.code, JSON.stringify(result)).toMatch(/^(E_INTERNAL|E_DATA|E_CONFIG|E_DEVICE|TypeError)$/);
  });
});
