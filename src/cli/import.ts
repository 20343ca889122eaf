// `import`: things made elsewhere. Label stores and images of others become artifacts that --labels and --images take; weights (PyTorch state
// dict, safetensors) become one plain .safetensors file under torchvision's names, that configs can name and that needs no
// pickle reader. Whether weights fit a model is checked where they are loaded.

import { type Command, Option } from 'commander';
import { expected, LpldError } from '../errors.ts';
import { formatBytes } from '../report/format.ts';
import { examplesText } from './examples.ts';
import { interruptible } from './exit.ts';
import { type AddCommand, printResult, type Session } from './io.ts';
import { type Globals, integer, progressOf, replaceOption } from './options.ts';
import { artifactDocument, artifactText } from './stage.ts';

interface ImportFlags extends Globals {
  readonly format?: string;
  readonly images?: string;
  readonly out?: string;
  readonly replace?: boolean;
  readonly inputSize?: number;
}

export const addImport: AddCommand = (program, session) => {
  const { imports } = session.services.exchangeFormats();
  const formats = imports.map(({ name, summary }) => `  ${name.padEnd(12)} ${summary}`).join('\n');
  const names = imports.map(({ name }) => name);
  const group = program
    .command('import')
    .summary('take labels, images or weights made elsewhere')
    .description(`Makes an artifact of labels or images that others made.\n\nFormats:\n${formats}`)
    .argument('[dir]', 'folder of the foreign files')
    .addOption(new Option('--format <name>', 'format of the files').choices(names))
    .option('--images <dir>', 'for labels: artifact folder with the images they are of, in the same order')
    .option('--out <dir>', 'folder of the artifact to make')
    .addOption(replaceOption())
    .addOption(
      new Option(
        '--input-size <px>',
        'for labels: side of the images the teacher saw (integer >= 1; default: that of the images)',
      ).argParser(integer('--input-size', 1)),
    )
    .addHelpText(
      'after',
      examplesText([
        ['images that others distilled', 'import their/images --format folder --out d/their-images'],
        [
          'and the labels of SRe2L, CDA or LPLD for them',
          'import their/labels --format fkd --images d/their-images --out d/their-labels',
        ],
      ]),
    )
    .action((dir: string | undefined, _: object, command: Command) =>
      importFiles(dir, command.optsWithGlobals<ImportFlags>(), session),
    );
  group
    .command('weights')
    .description('Converts a state dict (flat, or under state_dict or model, with or without module.) to safetensors.')
    .argument('<file>', '.safetensors, or a PyTorch state dict in .pth, .pt, .bin or .tar')
    .option('--out <file>', '.safetensors file to write (required)') // the group's own --out takes its value
    .option('--replace', 'overwrite a file of other tensors there (default: off, that is refused)')
    .addHelpText(
      'after',
      examplesText([["torchvision's ResNet-18", 'import weights resnet18-f37072fd.pth --out resnet18.safetensors']]),
    )
    .action(async (file: string, _: object, command: Command) => {
      const flags = command.optsWithGlobals<ImportFlags>();
      const out = need(flags.out, '--out');
      const done = await session.services.importWeights(file, out, { replace: flags.replace ?? false });
      const text = `${out}: ${done.tensors} tensors, ${formatBytes(done.bytes)}\nsha256 ${done.sha256}`;
      printResult(session, flags, { out, ...done }, text);
    });
};

/** Options are asked for here: a required one of the group would be asked of `import weights` too. */
function need(value: string | undefined, name: string): string {
  if (value !== undefined) return value;
  throw new LpldError(
    'E_CONFIG',
    expected('a value', name, undefined, 'lpld-native import --help lists what is needed'),
  );
}

async function importFiles(dir: string | undefined, flags: ImportFlags, session: Session): Promise<void> {
  const format = need(flags.format, '--format');
  const { images = null, inputSize = null, replace = false } = flags;
  const given = { dir: need(dir, 'dir'), images, out: need(flags.out, '--out'), replace, inputSize };
  await interruptible(session, async (signal) => {
    const progress = progressOf(flags, session.io);
    try {
      const artifact = await session.services.importData({ format, ...given, progress, signal });
      progress.close();
      printResult(session, flags, artifactDocument(artifact), artifactText(artifact));
    } finally {
      progress.close();
    }
  });
}
