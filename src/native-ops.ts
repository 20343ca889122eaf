// The part of the native contract that runs at once: single ops on given tensors. Letters as in native.ts.

import type { NativeImageStore, NativeModel, Precision, Recipes } from './native.ts';
import type { TensorMap, TensorView } from './tensor.ts';

/** The door to single ops, synchronous, for tests, benches and the small pixel work of the stages. */
export interface NativeOps {
  philox(counter: readonly number[], key: readonly number[]): number[]; // one block: four u32
  normals(seed: bigint, purpose: number, object: number, view: number, count: number): TensorView; // F32 [count]
  renderBatch(store: NativeImageStore, recipes: Recipes, size: number): TensorView; // U8 [M, C, P, P], mixed
  resizeBilinear(image: TensorView, height: number, width: number): TensorView; // U8 [H,W,C] -> [height,width,C]
  cropFlipRoll(
    x: TensorView,
    groups: number,
    crop: TensorView,
    flip: TensorView,
    roll: TensorView,
    grad: TensorView,
  ): {
    y: TensorView;
    dx: TensorView;
  }; // F32/F64 [G*n,C,P,P]; crop I32 [G,4]; flip U8 [G]; roll I32 [G,2]; grad like y
  bnMatch(x: TensorView, groups: number, mean: TensorView, variance: TensorView): { loss: TensorView; dx: TensorView }; // x [G*n,C,H,W]; mean, variance [G,C]; loss [G]
  /** Frozen BatchNorm, residual, activation and group moments with the gradients of sum(y*gy + mean*gm + variance*gv). */
  normAct(
    x: TensorView, // F32, BF16 or F64 [G*n, C, H, W]
    residual: TensorView | null, // like x
    spec: {
      readonly scale: TensorView; // F32 [C]
      readonly shift: TensorView;
      readonly center: TensorView;
      readonly relu: boolean;
      readonly groups: number; // 0 for no moments
    },
    grads: { readonly y: TensorView; readonly mean: TensorView; readonly variance: TensorView },
  ): { y: TensorView; dx: TensorView; dResidual?: TensorView; mean?: TensorView; variance?: TensorView }; // moments F64 [G, C]
  /** BatchNorm with the statistics of the batch, residual and activation, with the gradients of sum(y * grad). */
  batchNormAct(
    x: TensorView, // F32, BF16 or F64 [B, C, H, W]
    residual: TensorView | null, // like x
    spec: {
      readonly weight: TensorView; // F32 [C], as the three that follow
      readonly bias: TensorView;
      readonly runningMean: TensorView;
      readonly runningVar: TensorView;
      readonly momentum: number;
      readonly eps: number;
      readonly relu: boolean;
    },
    grad: TensorView, // like x
  ): {
    y: TensorView;
    dx: TensorView;
    dWeight: TensorView;
    dBias: TensorView;
    runningMean: TensorView; // as moved
    runningVar: TensorView;
    dResidual?: TensorView;
  };
  /** Convolution with a frozen BatchNorm folded in, residual and activation; E_INTERNAL where the CPU or dtype cannot. */
  convNormAct(
    x: TensorView, // F32 or BF16 [B, C, H, W]
    residual: TensorView | null, // like y
    conv: {
      readonly weight: TensorView; // F32 [O, C, k, k]
      readonly bias: TensorView; // F32 [O]
      readonly scale: TensorView; // F32 [O]
      readonly shift: TensorView;
      readonly stride: number;
      readonly padding: number;
      readonly relu: boolean;
    },
  ): TensorView; // y like x [B, O, H', W']
  /** Convolution of stride 2 over 2 x 2 blocks as channels, with the gradient of sum(y * grad). */
  unshuffledConv(
    x: TensorView, // F32, BF16 or F64 [B, C, H, W], H and W even, C at most 4
    weight: TensorView, // like x [O, C, k, k], k odd
    bias: TensorView | null, // like x [O]
    padding: number, // (k - 1) / 2
    grad: TensorView, // like y
  ): { y: TensorView; dx: TensorView }; // y like x [B, O, H/2, W/2]
  /** 3x3 convolution of stride 1 and padding 1 by Winograd's minimal filtering, with grad the gradients of
   * sum(y * grad), too; E_INTERNAL where the CPU cannot. */
  winogradConv(
    x: TensorView, // F32 or BF16 [B, C, H, W], C a multiple of 64
    weight: TensorView, // F32 [O, C, 3, 3], O a multiple of 64
    tail: {
      readonly tile: 2 | 4; // outputs a side of a tile; 4 in F32 only
      readonly bias: TensorView | null; // F32 [O]
      readonly residual: TensorView | null; // like y; only without grad
      readonly relu: boolean; // likewise
      readonly learns: boolean; // with grad: those to weight and bias as well
    },
    grad: TensorView | null, // like y
  ): { y: TensorView; dx?: TensorView; dWeight?: TensorView; dBias?: TensorView }; // y like x [B, O, H, W]
  classMoments(
    x: TensorView,
    labels: TensorView,
    numClasses: number,
    shift: TensorView,
  ): { sum: TensorView; sumSquares: TensorView; count: TensorView }; // F64 [K,C], [K,C], [K] of x - shift
  /** Mean cosine over pairs of rows of a class: features F32 [n, D], labels I32 [n] -> F64 [K], NaN for fewer than two. */
  classCosine(features: TensorView, labels: TensorView, numClasses: number): TensorView;
  softKl(
    student: TensorView,
    teacher: TensorView,
    temperature: number,
    lossScale: number,
  ): { loss: TensorView; dStudent: TensorView };
  pixelAdam(
    x: TensorView,
    m: TensorView,
    v: TensorView,
    grad: TensorView,
    step: number,
    lr: number,
    beta1: number,
    beta2: number,
    eps: number,
    low: TensorView,
    high: TensorView,
  ): { x: TensorView; m: TensorView; v: TensorView };
  /** Means over the rows of each record, F64 [S]: logits F32 [M,K], labels I32 [M] or null, offset I32 [S+1]. */
  labelMetrics(
    logits: TensorView,
    labels: TensorView | null,
    offset: TensorView,
  ): {
    confidence: TensorView;
    diff: TensorView;
    diffSigned: TensorView | null; // null without labels
    correct: TensorView | null;
  };
  imagePrior(x: TensorView, groups: number): { tv: TensorView; l2: TensorView; dTv: TensorView; dL2: TensorView };
  optimizerStep(
    kind: 'sgd' | 'adamw',
    parameter: TensorView,
    state: TensorMap,
    grad: TensorView,
    options: {
      step: number;
      lr: number;
      momentum: number;
      beta1: number;
      beta2: number;
      eps: number;
      weightDecay: number;
    },
  ): { parameter: TensorView; state: TensorMap };
  /** x*std + mean, clamp to [0,1], *255, truncate: F32 [n,C,P,P] -> U8 [n,P,P,C]. */
  toPixels(x: TensorView, mean: TensorView, std: TensorView): TensorView;
  /** F32 [C,256]: (level/255 - mean) / std, in float32 as torchvision's ToTensor + Normalize computes it. */
  normalizeTable(mean: TensorView, std: TensorView): TensorView;
  initialClassStats(model: NativeModel, mode: 'ema' | 'exact'): TensorMap;
  /** Final `<layer>.mean`, `<layer>.var` F32 [K,C] and `count` I64 [K] from a collectStats state. */
  finishClassStats(model: NativeModel, mode: 'ema' | 'exact', state: TensorMap): TensorMap;
  /** Eval-mode logits of float input F32 [B,C,P,P] -> F32 [B,K], and the model's input gradient for a given dLogits. */
  forward(model: NativeModel, x: TensorView, precision: Precision): TensorView;
}

/** One op on numbers made on the device, forward and backward, timed by the device's own clock: for benches. */
export interface TimeOpSpec {
  readonly op: 'normAct' | 'bnMatch' | 'cropFlipRoll' | 'pixelAdam' | 'conv3' | 'conv3Weight' | 'batchNormAct' | 'copy';
  readonly device: string;
  readonly dtype: 'F32' | 'BF16'; // of bnMatch, cropFlipRoll and pixelAdam F32 only
  readonly groups: number; // G
  readonly imagesPerGroup: number; // n
  readonly channels: number; // C
  readonly size: number; // P: x is [G*n, C, P, P]
  readonly kernels: boolean; // ours where they serve the device; false: the bodies used without them
  readonly threads: number; // of the CPU
  readonly graph: boolean; // replays a captured run where a CUDA graph can be made
  readonly runs: number; // of a round, one after the other
  readonly rounds: number;
}

export interface TimeOpResult {
  readonly seconds: TensorView; // F64 [rounds] of one run
  readonly norms: TensorView; // F64 [outputs and gradients] Euclidean norms: equal problems have equal ones
  readonly captured: boolean;
}
