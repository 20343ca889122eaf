// evaluate: the stage contract. It keeps nothing while it works, so a stop costs the whole stage.

import { testStage } from '../util/stage-suite.ts';

testStage({
  stage: 'evaluate',
  after: ['squeeze', 'synthesize', 'relabel', 'prune', 'train'],
  seeded: false,
  cancelAt: [{ label: /test images/, share: 0 }],
  config: { train: { students: 2 } },
});
