// What a command may touch of the process: two streams, the environment, the command line. Results go to stdout and
// nothing else does; progress, logs and errors go to stderr. Tests pass their own.

import type { Command } from 'commander';
import type { ProgressStream } from '../progress.ts';
import type { Globals } from './options.ts';
import type { Services } from './services.ts';

export interface Io {
  readonly stdout: { write(text: string): unknown };
  readonly stderr: ProgressStream;
  readonly env: Readonly<Record<string, string | undefined>>;
}

/** One run of the command line. */
export interface Session {
  readonly io: Io;
  readonly argv: readonly string[];
  readonly services: Services;
  /** Set by the first SIGINT or SIGTERM. */
  stoppedBy: 'SIGINT' | 'SIGTERM' | undefined;
  /** Exit code of a command that worked but found something wrong (doctor). */
  exitCode: number;
}

/** Adds one command (and its subcommands) to the program. */
export type AddCommand = (program: Command, session: Session) => void;

/** Prints the result of a command: with --json one document on one line, else the text. */
export function printResult(session: Session, globals: Globals, document: unknown, text: string): void {
  session.io.stdout.write(globals.json ? `${JSON.stringify(document)}\n` : `${text}\n`);
}
