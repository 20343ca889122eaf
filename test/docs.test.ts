// What the documents say against what is there: links, commands and flags, npm scripts, presets, exit codes, code taken
// from the examples, QUIRK tags, and the page that is written from the options tables.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { describe, expect, test } from 'vitest';
import { configDoc, sectionSummaries } from '../scripts/write-config-doc.mjs';
import { COMMANDS } from '../src/cli/commands.ts';
import { loadServices } from '../src/cli/load.ts';
import { main } from '../src/cli/main.ts';
import { configJsonSchema, presetNames } from '../src/config.ts';
import { EXIT_CODES } from '../src/errors.ts';
import { range } from '../src/option-text.ts';
import { STAGES } from '../src/stages/index.ts';

const root = join(import.meta.dirname, '..');
const read = (path: string): string => readFileSync(join(root, path), 'utf8');
/** A document without its section of commands that are meant to fail. */
const working = (path: string): string =>
  read(path).replace(/^## Errors and exit codes\n[\s\S]*?(?=^## |$(?![\s\S]))/m, '');

/** Files below some folders of the package, relative to it. */
const filesIn = (...folders: string[]): string[] =>
  folders.flatMap((folder) =>
    readdirSync(join(root, folder), { recursive: true, withFileTypes: true })
      .filter((entry) => entry.isFile())
      .map((entry) => relative(root, join(entry.parentPath, entry.name))),
  );

const documents = [
  ...readdirSync(root).filter((name) => name.endsWith('.md')),
  ...filesIn('docs').filter((name) => name.endsWith('.md')),
];

/** Text of the fenced blocks of some languages. */
const blocks = (text: string, languages: readonly string[]): string[] =>
  [...text.matchAll(/^```(\w*)\n([\s\S]*?)^```$/gm)]
    .filter(([, language]) => languages.includes(language!))
    .map(([, , body]) => body!);

const withoutCode = (text: string): string => text.replace(/^```[\s\S]*?^```$/gm, '').replace(/`[^`\n]*`/g, '`code`');

/** Anchors of a document as GitHub makes them of its headings. */
const anchors = (text: string): string[] =>
  [...text.replace(/^```[\s\S]*?^```$/gm, '').matchAll(/^#+ (.+)$/gm)].map(([, title]) =>
    title!
      .toLowerCase()
      .replace(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );

describe.each(documents)('%s', (name) => {
  test('every relative link leads to a file and, where it names one, to a heading', () => {
    const links = [...withoutCode(read(name)).matchAll(/\]\(([^)\s]+)\)/g)].map(([, target]) => target!);
    for (const link of links.filter((target) => !/^[a-z]+:/.test(target))) {
      const [path = '', anchor] = link.split('#');
      const target = path === '' ? name : relative(root, join(root, dirname(name), path));
      expect(target.startsWith('..'), `${link} leaves the package`).toBe(false);
      expect(existsSync(join(root, target)), `${link} in ${name}`).toBe(true);
      if (anchor !== undefined) expect(anchors(read(target)), `${link} in ${name}`).toContain(anchor);
    }
  });

  test('npm scripts named are scripts of package.json, and presets named by `run` and --config exist', () => {
    const { scripts } = JSON.parse(read('package.json')) as { scripts: Record<string, string> };
    for (const [, script] of read(name).matchAll(/\bnpm run ([a-z][\w:-]*)/g))
      expect(Object.keys(scripts)).toContain(script);
    for (const [, source] of working(name).matchAll(/lpld-native (?:run|\w+ --config) ([a-z][\w-]*)/g))
      expect(presetNames()).toContain(source);
  });

  test('paths of the tree written as code exist', () => {
    const code = [
      ...read(name).matchAll(/`((?:src|native|binding|test|scripts|docs|data|bench|examples)\/[\w./-]+)`/g),
    ];
    for (const [, path] of code) expect(existsSync(join(root, path!)), `${path} in ${name}`).toBe(true);
  });
});

/** stdout of the program itself, run in this process. */
async function help(...argv: string[]): Promise<string> {
  let out = '';
  const stdout = { write: (text: string) => (out += text) };
  const stderr = Object.assign(Object.create(process.stderr) as NodeJS.WriteStream, { write: () => true });
  const code = await main([...argv, '--help'], COMMANDS, loadServices, { stdout, stderr, env: {} });
  return code === 0 ? out : '';
}

describe('commands', () => {
  /** Every command line written in a document: `lpld-native ...`, up to a comment, a pipe, the end of code or line. */
  const lines = documents.flatMap((name) =>
    [...read(name).matchAll(/(?:npx |\$ |`)lpld-native ([^`\n#|>]+)/g)].map(([, line]) => ({
      name,
      line: line!.trim(),
    })),
  );

  test('there are some, and every command and flag of theirs exists', async () => {
    expect(lines.length).toBeGreaterThan(20);
    for (const { name, line } of lines) {
      const words = line.split(/\s+/).filter((word) => word !== '...' && word !== '…');
      const [command = ''] = words;
      if (command === '' || command.startsWith('-') || command.startsWith('<')) continue;
      const groups = ['data', 'presets', 'import'];
      const path = groups.includes(command) && /^\w+$/.test(words[1] ?? '') ? [command, words[1]!] : [command];
      const text = await help(...path);
      expect(text, `lpld-native ${path.join(' ')} in ${name}`).toContain(`lpld-native ${path.join(' ')} `);
      for (const flag of words.filter((word) => word.startsWith('--')))
        expect(text.split(/[\s,]+/), `${line} in ${name}`).toContain(flag.split('=')[0]);
    }
  });

  test('the README has a command for every stage, and cli.md a section for every command', async () => {
    for (const { name } of STAGES) expect(read('README.md')).toContain(`npx lpld-native ${name} --config`);
    const listed = [...(await help()).matchAll(/^ {2}([a-z]+) /gm)].map(([, name]) => name!);
    const sections = read('docs/cli.md');
    for (const name of listed.filter((command) => command !== 'help'))
      expect(sections, name).toMatch(new RegExp(`^#+ .*\\b${name}\\b`, 'm'));
  });

  test('every --set key in a document is a key of the config', () => {
    const known = new Set<string>();
    const { properties } = configJsonSchema() as { properties: Record<string, { properties?: object }> };
    for (const [section, leaf] of Object.entries(properties))
      for (const key of Object.keys(leaf.properties ?? { '': 0 }))
        known.add(key === '' ? section : `${section}.${key}`);
    for (const name of documents)
      for (const [, key] of working(name).matchAll(/--set ([a-z]\w*(?:\.\w+)*)=/g))
        if (key !== 'section.key') expect([...known], `--set ${key} in ${name}`).toContain(key);
  });
});

describe('README.md', () => {
  const readme = read('README.md');

  test('its JavaScript stands in the examples, word for word', () => {
    const examples = filesIn('examples').map(read);
    const parts = blocks(readme, ['js', 'ts']);
    expect(parts.length).toBeGreaterThan(1);
    for (const part of parts)
      expect(
        examples.some((text) => text.includes(part)),
        part,
      ).toBe(true);
  });

  test('its table of exit codes is that of errors.ts', () => {
    for (const [code, exit] of Object.entries(EXIT_CODES))
      expect(readme).toMatch(new RegExp(`^\\| ${exit}(?:, 143)? \\|.*\`${code}\``, 'm'));
  });

  test('every preset has a row', () => {
    for (const preset of presetNames()) expect(readme).toContain(`| \`${preset}\` |`);
  });

  test('the rows of oddities are the QUIRK tags of the code', () => {
    const code = filesIn('src', 'native', 'binding', 'test/reference').filter((name) => /\.(ts|h|cpp|cu)$/.test(name));
    const tags = new Set(code.flatMap((name) => [...read(name).matchAll(/QUIRK\(([\w-]+)\)/g)].map(([, tag]) => tag!)));
    const section = readme.slice(readme.indexOf('\n## Differences'), readme.indexOf('Further deliberate deviations'));
    const rows = [...section.matchAll(/^\| `([\w-]+)` \|/gm)].map(([, tag]) => tag!);
    expect(rows.sort()).toEqual([...tags].sort());
  });
});

test('docs/api.md names every function of the package', async () => {
  const page = read('docs/api.md');
  for (const name of Object.keys(await import('../src/index.ts')))
    if (name !== 'default') expect(page, name).toMatch(new RegExp(`\\b${name}\\b`));
});

test('docs/config.md is what the options tables give (node scripts/write-config-doc.mjs)', () => {
  expect(read('docs/config.md')).toBe(configDoc(configJsonSchema(), range, sectionSummaries(STAGES)));
});
