// synthesize: the stage contract for distilled and for real images, and the group plan of a resume.

import { expect, test } from 'vitest';
import { testStage } from '../util/stage-suite.ts';

const stops = [
  { label: /forward/, share: 0.05 },
  { label: /forward/, share: 0.5 },
];

testStage({ stage: 'synthesize', after: ['squeeze'], seeded: true, cancelAt: stops });

testStage(
  {
    stage: 'synthesize',
    after: ['squeeze'],
    seeded: true,
    cancelAt: stops,
    config: { synthesize: { groupsPerForward: null, encoding: 'jpeg' } },
  },
  ({ run, stop }) => {
    test('a resume keeps the classes that share a forward, whatever memory is free now', async () => {
      const whole = await run('one');
      expect(whole.manifest.summary).toMatchObject({ groupPlan: [[0, 1, 2]] });
      const little = { memory: 2 ** 16 };
      expect((await run('little', { runtime: little })).manifest.summary).toMatchObject({ groupPlan: [[0], [1], [2]] });
      await stop('changed', stops[0]!);
      expect((await run('changed', { runtime: little })).id).toBe(whole.id);
    });
  },
);

testStage({
  stage: 'synthesize',
  after: [],
  seeded: true,
  cancelAt: [{ label: /real images/, share: 0 }],
  config: { synthesize: { method: 'random' } },
});
