// How a command ends: the error line, the exit code, Ctrl-C. Exit codes are errors.ts's: 0 ok, 1 our fault, 2 usage,
// 3 data, 4 machine, 5 diverged, 130 SIGINT, 143 SIGTERM. The first signal asks the work to stop after its step, the
// second one kills at once.
// Source: style.md section 7, native-build.md section 4.

import { CommanderError } from 'commander';
import { nearest } from '../datasets/index.ts';
import { EXIT_CODES, expected, LpldError, toLpldError } from '../errors.ts';
import type { Session } from './io.ts';

export const PROGRAM = 'lpld-native';

/** commander's errors (unknown option, missing argument) as E_CONFIG, anything else through toLpldError. */
export function asLpldError(thrown: unknown, argv: readonly string[] = []): LpldError {
  if (!(thrown instanceof CommanderError)) return toLpldError(thrown);
  const choice = /^error: option '(\S+).*' argument '(.*)' is invalid\. Allowed choices are (.*)\.$/s.exec(
    thrown.message,
  );
  if (choice !== null) {
    const [, flag = '', given, allowed] = choice;
    return new LpldError('E_CONFIG', expected(`one of ${allowed}`, flag, given), { reason: thrown.code }, thrown);
  }
  const text = thrown.message
    .replace(/^error: /, '')
    .replace(/\n?\((Did you mean [^)]*)\)/, (_, m: string) => `\n${m.toLowerCase()}`);
  const command = /^[a-z]+$/.test(argv[0] ?? '') && thrown.code !== 'commander.unknownCommand' ? ` ${argv[0]}` : '';
  const missing = /^required option '(--[\w-]+)/.exec(text)?.[1];
  const typed = argv.find((word) => missing !== undefined && word !== missing && likely(word, missing));
  const help = typed === undefined ? `${PROGRAM}${command} --help lists what it takes` : `is ${typed} meant to be it?`;
  const advice = text.includes('\n') ? '' : `\n${help}`;
  return new LpldError('E_CONFIG', `${text}${advice}`, { reason: thrown.code }, thrown);
}

/** Whether a word may be an option misspelt; commander asks for a missing one before it looks at unknown ones. */
const likely = (word: string, option: string): boolean =>
  word.startsWith(option.slice(0, 3)) && nearest(word, [option]) !== null;

export function exitCodeOf(error: LpldError, session: Pick<Session, 'stoppedBy'>): number {
  return error.code === 'E_CANCELLED' && session.stoppedBy === 'SIGTERM' ? 143 : EXIT_CODES[error.code];
}

/**
 * The text of an error for people: `lpld-native: E_DATA: message`, facts of `details` that the message does not
 * already say, then what to do. With LPLD_DEBUG set also the stack and the causes.
 */
export function errorText(error: LpldError, session: Pick<Session, 'argv' | 'io'>): string {
  const [first = '', ...advice] = error.message.split('\n');
  const facts = Object.entries(error.details)
    .filter(
      ([, value]) => ['string', 'number', 'boolean'].includes(typeof value) && !error.message.includes(String(value)),
    )
    .filter(([key]) => (error.code === 'E_CONFIG' ? key === 'path' : key !== 'reason' || error.code === 'E_DEVICE'))
    .map(([key, value]) => `${key}: ${value}`)
    .slice(0, 4);
  const lines = [`${PROGRAM}: ${error.code}: ${first}${facts.length > 0 ? ` (${facts.join(', ')})` : ''}`, ...advice];
  if (error.code === 'E_CANCELLED') lines.push(resumeHint(session.argv));
  const debug = Boolean(session.io.env.LPLD_DEBUG);
  if (error.code === 'E_INTERNAL' && !debug)
    lines.push('this is a fault of lpld-native: set LPLD_DEBUG=1 for the stack and report it');
  if (debug) for (let e: unknown = error; e instanceof Error; e = e.cause) lines.push(e.stack ?? String(e));
  return `${lines.join('\n')}\n`;
}

/** What --json prints instead of a result. */
export function errorDocument(error: LpldError): { error: { code: string; message: string; details: object } } {
  return { error: { code: error.code, message: error.message, details: error.details } };
}

function resumeHint(argv: readonly string[]): string {
  const again: string[] = [];
  for (let i = 0; i < argv.length; i++) {
    if (argv[i] === '--restart-from')
      i++; // a resumed run must not start over
    else if (!argv[i]?.startsWith('--restart-from=')) again.push(argv[i] ?? '');
  }
  const quoted = again.map((word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`));
  return `what is done is kept; to go on: ${[PROGRAM, ...quoted].join(' ')}`;
}

/**
 * Runs work that a signal may stop. The first SIGINT or SIGTERM aborts `signal`; the second one kills the process by
 * the default action, without waiting for native code.
 *
 * @param work - must reject soon after its signal aborts (E_CANCELLED), keeping what is done
 * @throws whatever `work` throws
 */
export async function interruptible<T>(session: Session, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const controller = new AbortController();
  const signals = ['SIGINT', 'SIGTERM'] as const;
  const onSignal = (name: 'SIGINT' | 'SIGTERM'): void => {
    if (session.stoppedBy !== undefined) {
      for (const each of signals) process.removeAllListeners(each);
      process.kill(process.pid, name);
      return;
    }
    session.stoppedBy = name;
    session.io.stderr.write('\nstopping after this step; press Ctrl-C again to kill\n');
    controller.abort(new LpldError('E_CANCELLED', name === 'SIGINT' ? 'stopped by Ctrl-C' : 'stopped by SIGTERM'));
  };
  for (const name of signals) process.on(name, onSignal);
  try {
    return await work(controller.signal);
  } finally {
    for (const name of signals) process.off(name, onSignal);
  }
}
