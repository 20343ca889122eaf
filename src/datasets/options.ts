// The dataset section of a config: which images, how they are stored, what the network sees.

import { z } from 'zod';

const perChannel = z.array(z.number()).nullable().default(null);

const table = z.strictObject({
  format: z
    .enum(['digits', 'idx', 'cifar10', 'cifar100', 'folder', 'tiny-imagenet'])
    .default('digits')
    .describe('file format'),
  path: z.string().default('').describe('folder of the dataset; the embedded digits need none'),
  classes: z
    .array(z.int().min(0))
    .nullable()
    .default(null)
    .describe('class ids to keep, renumbered in this order; all when none'),
  inputSize: z.int().min(1).default(16).describe('side of the network input and of synthetic images, px'),
  storedSize: z
    .int()
    .min(0)
    .default(0)
    .describe('resize every image to a square of this side once on loading, px; 0 keeps sizes'),
  testResize: z.int().min(0).default(0).describe('resize the shorter side of test images to this, px; 0 keeps it'),
  testCrop: z.int().min(0).default(0).describe('then take a centre crop of this side, px; 0 for none'),
  mean: perChannel.describe("per channel, of pixels in [0, 1]; the dataset's own when none"),
  std: perChannel.describe("per channel; the dataset's own when none"),
  skipUnreadable: z
    .boolean()
    .default(false)
    .describe('leave out unreadable images, counted and listed, instead of stopping'),
});

export const datasetOptions = table.superRefine(({ format, path }, { addIssue }) => {
  if (format !== 'digits' || path === '') return;
  const others = table.shape.format.unwrap().options.filter((name) => name !== 'digits');
  const params = { advice: `give dataset.format too, one of ${others.join(', ')}; or leave the path out` };
  addIssue({ code: 'custom', path: ['path'], message: 'none, as the digits are embedded,', params });
});

export type DatasetConfig = z.infer<typeof datasetOptions>;
