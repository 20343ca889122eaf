// SRe2L (squeeze, recover, relabel): a group is one image of each of up to `batch` consecutive classes, matched with the
// teacher's running statistics of the whole dataset. Image id i of every class is made in round i; images of one class
// never see each other, which is the likeness within a class that LPLD criticises.
// Source: methods 1.2. QUIRK(sampler-batches): upstream's multi-process variant puts several images of few classes into a
// batch; not followed: the single-process script is the method. QUIRK(short-block): a last block below the batch size
// crashes upstream's L2 prior; changed: it is a smaller group.

import { expected, LpldError } from '../errors.ts';
import type { Method } from './index.ts';

export const sre2l: Method = {
  name: 'sre2l',
  summary: 'one image per class in a batch of many classes against global statistics',
  source: 'synthetic',
  curriculum: false,
  groups(classes, { ipc, batch, numClasses, targets }) {
    if (targets === 'class')
      throw new LpldError(
        'E_CONFIG',
        expected('global or auto', 'synthesize.targets', targets, 'batches of many classes have no class statistics'),
        { key: 'synthesize.targets' },
      );
    const blocks = Array.from({ length: Math.ceil(classes.length / batch) }, (_, b) =>
      classes.slice(b * batch, (b + 1) * batch),
    );
    return Array.from({ length: ipc }, (_, id) =>
      blocks.map((block) => ({
        images: block.map((classId) => ({ classId, id })),
        target: 'global' as const,
        object: block[0]! + numClasses * id,
      })),
    ).flat();
  },
};
