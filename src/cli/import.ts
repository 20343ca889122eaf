// `import weights`: weights made elsewhere (PyTorch state dict, safetensors) as one plain .safetensors file under
// torchvision's names, that configs can name and that needs no pickle reader. Whether they fit a model is checked where
// they are loaded.

import type { Command } from 'commander';
import { formatBytes } from '../report/format.ts';
import { type AddCommand, printResult } from './io.ts';
import type { Globals } from './options.ts';

export const addImport: AddCommand = (program, session) => {
  const group = program
    .command('import')
    .summary('convert weights made elsewhere')
    .description('Converts things made elsewhere.');
  group
    .command('weights')
    .description('Converts a state dict (flat, or under state_dict or model, with or without module.) to safetensors.')
    .argument('<file>', '.safetensors, or a PyTorch state dict in .pth, .pt, .bin or .tar')
    .requiredOption('--out <file>', '.safetensors file to write')
    .action(async (file: string, _: object, command: Command) => {
      const flags = command.optsWithGlobals<Globals & { readonly out: string }>();
      const done = await session.services.importWeights(file, flags.out);
      const text = `${flags.out}: ${done.tensors} tensors, ${formatBytes(done.bytes)}\nsha256 ${done.sha256}`;
      printResult(session, flags, { out: flags.out, ...done }, text);
    });
};
