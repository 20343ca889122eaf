// The examples a command's help ends with: command lines that can be copied, each with what it is for. They stand in a
// stage's definition or beside the command; test/cli-examples.test.ts asks every command for one and parses them all.

import type { Example } from '../stages/types.ts';
import { PROGRAM } from './exit.ts';

/** The last part of a help text, for commander's addHelpText; empty without examples. */
export function examplesText(examples: readonly Example[]): string {
  if (examples.length === 0) return '';
  return `\nExamples:\n${examples.map(([what, line]) => `  # ${what}\n  npx ${PROGRAM} ${line}`).join('\n')}`;
}
