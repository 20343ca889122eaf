// What a failing command prints and its exit code.

import { describe, expect, test } from 'vitest';
import { COMMANDS } from '../src/cli/commands.ts';
import { main } from '../src/cli/main.ts';
import { LpldError } from '../src/errors.ts';
import { cli, failing } from './util/cli.ts';

describe('errors', () => {
  test.each([
    ['E_CONFIG', 2],
    ['E_DATA', 3],
    ['E_MISMATCH', 3],
    ['E_DEVICE', 4],
    ['E_DIVERGED', 5],
    ['E_CANCELLED', 130],
    ['E_INTERNAL', 1],
  ] as const)('%s exits with %d', async (code, exit) => {
    expect((await cli(['run', 'q'], failing(new LpldError(code, 'x')))).code).toBe(exit);
  });

  test('one clear line with the facts the message lacks, advice below, no stack', async () => {
    const error = new LpldError('E_DATA', 'broken image a.png\nremove it', {
      path: 'set/b',
      bytes: 3,
      image: 'a.png',
      list: [1],
    });
    const { err, out } = await cli(['run', 'q'], failing(error));
    expect(err).toBe('lpld-native: E_DATA: broken image a.png (path: set/b, bytes: 3)\nremove it\n');
    expect(out).toBe('');
  });

  test('the stack and the cause only with LPLD_DEBUG', async () => {
    const error = new LpldError('E_INTERNAL', 'lost', {}, new Error('the cause'));
    expect((await cli(['run', 'q'], failing(error))).err).toMatch(
      /^lpld-native: E_INTERNAL: lost\nthis is a fault .*LPLD_DEBUG=1.*\n$/,
    );
    const { err } = await cli(['run', 'q'], failing(error), { LPLD_DEBUG: '1' });
    expect(err).toMatch(/\n {4}at .*\n/);
    expect(err).toContain('the cause');
  });

  test('--json: the error is the one document of stdout', async () => {
    const { out, code } = await cli(['run', 'q', '--json'], failing(new LpldError('E_DATA', 'm', { path: 'p' })));
    expect(code).toBe(3);
    expect(JSON.parse(out)).toEqual({ error: { code: 'E_DATA', message: 'm', details: { path: 'p' } } });
    expect(JSON.parse((await cli(['run', '--json', '--nonsense'])).out)).toMatchObject({ error: { code: 'E_CONFIG' } });
  });

  test.each([
    [['run', 'q', '--dryrun'], '--dry-run'],
    [['squeeze', '--config', 'c', '--out', 'o', '--epoch', '3'], '--epochs'],
    [['sqeeze'], 'squeeze'],
    [['data', 'lsit'], 'list'],
    [['run', 'q', '--jsno'], '--json'],
  ])('%j is answered with what was meant', async (argv, meant) => {
    const { code, err, out } = await cli(argv);
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toMatch(/^lpld-native: E_CONFIG: unknown (option|command) /);
    expect(err).toContain(`did you mean ${meant}?`);
  });

  test.each([
    [['run', 'q', '--precision', 'fp16'], /expected one of fp32, tf32, bf16 for --precision but received "fp16"\n$/],
    [['squeeze', '--confg', 'c', '--out', 'o'], /required option '--config.*\nis --confg meant to be it\?\n$/],
    [['squeeze', '--out', 'o', '--set', 'a=1', '--epochs', '3'], /'--config.*\nlpld-native squeeze --help lists/],
    [['squeeze'], /required option '--config.*\nlpld-native squeeze --help lists what it takes\n$/],
  ])('%j says what is allowed and where help is', async (argv, form) => {
    const { code, err } = await cli(argv);
    expect([code, err]).toEqual([2, expect.stringMatching(form)]);
  });

  test('after E_CANCELLED it says how to go on, quoted for a shell and without starting over', async () => {
    const argv = ['run', "it's.yaml", '--restart-from', 'train', '--out', 'a b'];
    const { err } = await cli(argv, failing(new LpldError('E_CANCELLED', 'stopped')));
    expect(err).toContain(`to go on: lpld-native run 'it'\\''s.yaml' --out 'a b'\n`);
  });

  test('services that cannot be loaded are an error like any other', async () => {
    let err = '';
    const stderr = {
      write: (text: string) => {
        err += text;
      },
    } as never;
    const io = { stdout: { write: () => {} }, stderr, env: {} };
    const code = await main(['run', 'q'], COMMANDS, () => Promise.reject(new Error('gone')), io);
    expect(code).toBe(1);
    expect(err).toContain('lpld-native: E_INTERNAL: gone');
  });
});
