// Rough costs for --dry-run: multiply-adds of a forward pass from the architecture alone, and a rate of this machine.
// An order of magnitude, said so wherever it is printed; measured times are in run.json.

import { availableParallelism } from 'node:os';
import type { Precision } from '../native.ts';

interface Net {
  readonly arch: string;
  readonly widths: readonly number[];
  readonly stem: 'imagenet' | 'small';
}

const RESNETS: Record<string, { blocks: readonly number[]; bottleneck: boolean }> = {
  resnet18: { blocks: [2, 2, 2, 2], bottleneck: false },
  resnet34: { blocks: [3, 4, 6, 3], bottleneck: false },
  resnet50: { blocks: [3, 4, 6, 3], bottleneck: true },
  resnet101: { blocks: [3, 4, 23, 3], bottleneck: true },
};

/** FLOP (two per multiply-add) of one forward pass and bytes of the f32 weights, classifier left out. */
export function modelFlops(net: Net, size: number): { flops: number; bytes: number } {
  let multiplies = 0;
  let weights = 0;
  const conv = (from: number, to: number, kernel: number, side: number): void => {
    weights += from * to * kernel * kernel;
    multiplies += from * to * kernel * kernel * side * side;
  };
  const resnet = RESNETS[net.arch];
  if (resnet === undefined) {
    let side = size;
    let from = 3;
    for (const width of net.widths) {
      conv(from, width, 3, side);
      from = width;
      side = Math.floor(side / 2);
    }
  } else {
    let side = net.stem === 'small' ? size : Math.ceil(size / 4);
    conv(3, 64, net.stem === 'small' ? 3 : 7, net.stem === 'small' ? size : Math.ceil(size / 2));
    let from = 64;
    for (const [stage, count] of resnet.blocks.entries()) {
      const width = 64 << stage;
      if (stage > 0) side = Math.ceil(side / 2);
      for (let i = 0; i < count; i++) {
        const out = resnet.bottleneck ? 4 * width : width;
        if (resnet.bottleneck) {
          conv(from, width, 1, side);
          conv(width, width, 3, side);
          conv(width, out, 1, side);
        } else {
          conv(from, width, 3, side);
          conv(width, width, 3, side);
        }
        if (from !== out) conv(from, out, 1, side);
        from = out;
      }
    }
  }
  return { flops: 2 * multiplies, bytes: 4 * weights };
}

/** Seconds of some FLOP on this machine's cores at a rate typical of such convolutions. */
export function secondsOf(flops: number, precision: Precision): number {
  const perCore = precision === 'bf16' ? 60e9 : 25e9;
  return flops / (perCore * availableParallelism());
}
