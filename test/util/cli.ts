// The command line in this process, on fake services: what a command prints, its exit code, and what it called.

import { COMMANDS } from '../../src/cli/commands.ts';
import { main } from '../../src/cli/main.ts';
import type { Services } from '../../src/cli/services.ts';
import { fakeServices } from './cli-fakes.mjs';
import { fakeReport } from './run-folder.ts';

export const report = fakeReport('runs/quickstart');

export interface Outcome {
  readonly code: number;
  readonly out: string;
  readonly err: string;
  /** Calls of the services: name, arguments. */
  readonly calls: readonly (readonly unknown[])[];
}

/** Runs the program with these arguments; `change` replaces services, `env` is its environment. */
export async function cli(
  argv: readonly string[],
  change: Partial<Services> = {},
  env: Record<string, string> = {},
): Promise<Outcome> {
  const { services, calls } = fakeServices(report, change) as unknown as { services: Services; calls: unknown[][] };
  let out = '';
  let err = '';
  const stdout = {
    write: (text: string) => {
      out += text;
    },
  };
  const stderr = {
    write: (text: string) => {
      err += text;
    },
    isTTY: false,
  } as never;
  const code = await main([...argv], COMMANDS, async () => services, { stdout, stderr, env });
  return { code, out, err, calls };
}

/** Services whose pipeline fails with `error`. */
export const failing = (error: unknown): Partial<Services> => ({
  runPipeline: () => Promise.reject(error),
});
