#!/usr/bin/env node
// Writes docs/config.md, the table of every key of a config, from the options tables (run after `npm run build:ts`).
// The text is a pure function of the tables: test/docs.test.ts compares it with the committed file.

import { realpathSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const HEAD = `# Every key of a config

Written by \`node scripts/write-config-doc.mjs\` from the options tables in src/; do not edit.

A config is a YAML or JSON file (or a preset, or an object given to \`parseConfig\`) with the keys below. What is left out
takes its default; an unknown key is an error that names the nearest known one. \`none\` is \`null\` in a file.

On the command line any key is \`--set section.key=value\`. The keys of a stage's own section are also flags of that
stage's command, in kebab case: \`synthesize.cropScale\` is \`lpld-native synthesize --crop-scale 0.5,1\`. \`--seed\` and
\`--precision\` work for every command. \`lpld-native presets show <name>\` prints a preset with all defaults filled in.

A key given on the command line that the config then does not read (\`prune.metric\` without \`prune.keep: metric\`,
\`squeeze.epochs\` with \`squeeze.weights\`) is refused; a file may name every key.
`;

const shown = (value) => {
  if (value === undefined) return '';
  if (value === null) return 'none';
  return Array.isArray(value) ? `[${value.map(shown).join(', ')}]` : value === '' ? 'empty' : String(value);
};

const cell = (text) => text.replaceAll('|', '\\|').replaceAll('<', '&lt;');

function table(properties, range) {
  const rows = Object.entries(properties).map(
    ([key, leaf]) =>
      `| \`${key}\` | ${cell(range(leaf))} | ${cell(shown(leaf.default))} | ${cell(leaf.description ?? '')} |`,
  );
  return ['| key | allowed | default | meaning |', '|---|---|---|---|', ...rows].join('\n');
}

/**
 * The text of docs/config.md.
 *
 * @param schema - JSON Schema of a whole config, input side
 * @param range - what a leaf of the schema allows, in words
 * @param summaries - one line per section, by name
 */
export function configDoc(schema, range, summaries) {
  const all = Object.entries(schema.properties);
  const plain = Object.fromEntries(all.filter(([, leaf]) => leaf.properties === undefined));
  const sections = all.filter(([, leaf]) => leaf.properties !== undefined);
  return [
    HEAD,
    `## Top level\n\n${table(plain, range)}\n`,
    ...sections.map(([name, leaf]) => `## ${name}\n\n${summaries[name] ?? ''}\n\n${table(leaf.properties, range)}\n`),
  ].join('\n');
}

/** What each section is about: the summary of its stage. */
export function sectionSummaries(stages) {
  const dataset = 'Which images, how they are stored, what the network sees. Not flags of a command: use --set.';
  const first = (text) => `${text[0].toUpperCase()}${text.slice(1)}.`;
  return { dataset, ...Object.fromEntries(stages.map(({ name, summary }) => [name, first(summary)])) };
}

if (process.argv[1] !== undefined && realpathSync(process.argv[1]) === fileURLToPath(import.meta.url)) {
  const { configJsonSchema } = await import('../dist/config.js');
  const { range } = await import('../dist/option-text.js');
  const { STAGES } = await import('../dist/stages/index.js');
  const text = configDoc(configJsonSchema(), range, sectionSummaries(STAGES));
  writeFileSync(new URL('../docs/config.md', import.meta.url), text);
}
