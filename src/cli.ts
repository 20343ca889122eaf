#!/usr/bin/env node
// The program (importing this file runs it): what only a process has, streams that close early and the exit code.
// The commands are the table in cli/commands.ts; cli/main.ts turns a command line into an exit code.

import { COMMANDS } from './cli/commands.ts';
import { loadServices } from './cli/load.ts';
import { main } from './cli/main.ts';

// `lpld-native ... | head` closes our output early. That is no error; a run goes on and keeps its files.
for (const stream of [process.stdout, process.stderr])
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });

const io = { stdout: process.stdout, stderr: process.stderr, env: process.env };
void main(process.argv.slice(2), COMMANDS, loadServices, io).then((code) => {
  process.exitCode = code;
});
