// From a command line to an exit code. Errors are caught here and nowhere else; with --json an error is a document too.

import { Command } from 'commander';
import { asLpldError, errorDocument, errorText, exitCodeOf, PROGRAM } from './exit.ts';
import type { AddCommand, Io, Session } from './io.ts';
import { addGlobals } from './options.ts';
import type { Services } from './services.ts';

/**
 * Runs one command line.
 *
 * @param argv - arguments without node and script
 * @param commands - the table of commands, in the order of --help
 * @param load - makes the services; its failure is an error like any other
 * @returns the exit code; nothing is thrown and the process is not ended
 */
export async function main(
  argv: readonly string[],
  commands: readonly AddCommand[],
  load: () => Promise<Services>,
  io: Io,
): Promise<number> {
  const facts = { io, argv, stoppedBy: undefined };
  let session: Session | undefined;
  try {
    session = { ...facts, services: await load(), exitCode: 0 };
    await buildProgram(commands, session).parseAsync([...argv], { from: 'user' });
    return session.exitCode;
  } catch (thrown) {
    const shown = (thrown as { code?: unknown }).code;
    if (shown === 'commander.helpDisplayed' || shown === 'commander.version') return 0;
    if (shown === 'commander.help') return 2; // a command is missing; its help is on stderr
    const error = asLpldError(thrown, argv);
    io.stderr.write(errorText(error, facts));
    if (argv.includes('--json')) io.stdout.write(`${JSON.stringify(errorDocument(error))}\n`);
    return exitCodeOf(error, session ?? facts);
  }
}

function buildProgram(commands: readonly AddCommand[], session: Session): Command {
  const { io, services } = session;
  const program = new Command(PROGRAM)
    .description(
      'Distils an image dataset into a few synthetic images and few bytes of soft labels, and trains on them.',
    )
    .version(services.version, '-V, --version', 'print the version')
    .exitOverride()
    .showSuggestionAfterError(true)
    .configureHelp({ showGlobalOptions: true })
    .configureOutput({
      writeOut: (text) => io.stdout.write(text),
      writeErr: (text) => io.stderr.write(text),
      outputError: () => {}, // printed by main, in our form
      getOutHasColors: () => false,
      getErrHasColors: () => false,
    });
  addGlobals(program);
  for (const add of commands) add(program, session);
  program.addHelpText(
    'after',
    `\nStages run in this order: ${services.stages.map((stage) => stage.name).join(' -> ')}`,
  );
  return program;
}
