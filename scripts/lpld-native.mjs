#!/usr/bin/env node
// The command as npm links it. It is a file of the repository and not one of dist/: npx links a clone once, and where the
// file was not there yet, because nothing was compiled, it says `not found` ever after. Only Node's own modules are
// imported before the program is known to be there.

import { existsSync } from 'node:fs';

const program = new URL('../dist/cli.js', import.meta.url);

if (existsSync(program)) {
  await import(program.href);
} else {
  const message = `expected the compiled program for lpld-native but received nothing\nset it up once: npm run bootstrap`;
  process.stderr.write(`lpld-native: E_DEVICE: ${message}\n`);
  if (process.argv.includes('--json'))
    process.stdout.write(`${JSON.stringify({ error: { code: 'E_DEVICE', message, details: {} } })}\n`);
  process.exitCode = 4;
}
