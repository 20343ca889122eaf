// Explicit Recipes of a file, field by field: whatever is replayed, decoded or ranked by them was checked here first, so
// that a stranger's store is refused by the name of its file and record and not by whoever trips over the number.
// Ranges: docs/label-format.md. Native code checks once more what would read past an image (native/data/recipes.cpp).

import type { Recipes } from './native.ts';
import type { ImageSizes } from './recipe.ts';
import { arrayOf } from './tensor.ts';

/** What the Recipes of a store may say. */
export interface RecipeBounds {
  readonly images: number; // N
  readonly inputSize: number; // P, px
  /** Sizes of the images, where they are at hand: crops must lie inside. */
  readonly sizes: ImageSizes | null;
}

/** @param row - of the batch; never returns */
export type RefuseRecipe = (batch: number, row: number, what: string, field: string, received: unknown) => never;

/** Whether the box of a row, top, left, height, width, lies inside [height, width], with sides of at least `least`. */
const isInside = (boxes: Int32Array, row: number, height: number, width: number, least: number): boolean => {
  const [top, left, tall, wide] = [boxes[4 * row]!, boxes[4 * row + 1]!, boxes[4 * row + 2]!, boxes[4 * row + 3]!];
  return top >= 0 && left >= 0 && tall >= least && wide >= least && top + tall <= height && left + wide <= width;
};

/**
 * Checks every field of every row.
 *
 * @param recipes - of dtypes and shapes as RECIPE_FIELDS has them, offsets rising
 * @param refuse - is told the first value out of range
 */
export function checkRecipes(recipes: Recipes, { images, inputSize, sizes }: RecipeBounds, refuse: RefuseRecipe): void {
  const offset = arrayOf(recipes.offset, 'I32');
  const [index, mixIndex] = [arrayOf(recipes.index, 'I32'), arrayOf(recipes.mixIndex, 'I32')];
  const crop = arrayOf(recipes.crop, 'I32');
  const boxes = { cutout: arrayOf(recipes.cutout, 'I32'), mixBox: arrayOf(recipes.mixBox, 'I32') };
  const [flip, mixKind] = [arrayOf(recipes.flip, 'U8'), arrayOf(recipes.mixKind, 'U8')];
  const lambda = arrayOf(recipes.lambda, 'F32');
  const boundless = [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY] as const;
  const sizeOf = (image: number): readonly [number, number] => {
    if (sizes === null) return boundless;
    return typeof sizes === 'function' ? sizes(image) : [sizes[2 * image]!, sizes[2 * image + 1]!];
  };
  for (let batch = 0; batch + 1 < offset.length; batch++) {
    const first = offset[batch]!;
    const rows = offset[batch + 1]! - first;
    for (let row = 0; row < rows; row++) {
      const at = first + row;
      const no = (what: string, field: string, received: unknown): never => refuse(batch, row, what, field, received);
      const shown = (of: Int32Array): string => `[${of.subarray(4 * at, 4 * at + 4)}]`;
      if (!(index[at]! >= 0 && index[at]! < images)) no(`an image below ${images}`, 'index', index[at]);
      const [height, width] = sizeOf(index[at]!);
      if (!isInside(crop, at, height, width, 1))
        no(sizes === null ? 'a crop of at least a pixel' : `a crop inside ${height}x${width}`, 'crop', shown(crop));
      if (flip[at]! > 1) no('0 or 1', 'flip', flip[at]);
      for (const field of ['cutout', 'mixBox'] as const)
        if (!isInside(boxes[field], at, inputSize, inputSize, 0))
          no(`a box inside ${inputSize}x${inputSize}`, field, shown(boxes[field]));
      if (mixKind[at]! > 2) no('0, 1 or 2', 'mixKind', mixKind[at]);
      if (!(mixIndex[at]! >= 0 && mixIndex[at]! < rows)) no(`a row below ${rows}`, 'mixIndex', mixIndex[at]);
      if (!(lambda[at]! >= 0 && lambda[at]! <= 1)) no('a share in [0, 1]', 'lambda', lambda[at]);
    }
  }
}
