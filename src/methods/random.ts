// random: real training images drawn at random, as many per class as the distilled set has. The control that "A Label is
// Worth a Thousand Images" (Qin et al. 2024) demands of every distilled set. Philox purpose 22, object = class.

import type { Method } from './index.ts';

export const random: Method = {
  name: 'random',
  summary: 'real images drawn at random: the control',
  source: 'real',
  curriculum: false,
  groups: () => [],
};
