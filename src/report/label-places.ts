// Where the names of marks in a chart stand: beside their marks, on the side that is free, moved up or down until no two
// lie on each other. Everything is in px, y down; widths of text are estimated, since nothing here can measure it.

const LINE_HEIGHT = 16;
const CHARACTER = 6.9; // wide, for 12 px of a sans-serif
const GAP = 14; // from the middle of a mark to its name

export interface Mark {
  readonly x: number;
  readonly y: number;
  readonly text: string;
}

export interface Box {
  readonly left: number;
  readonly right: number;
  readonly top: number;
  readonly bottom: number;
}

export interface Place {
  readonly side: 'left' | 'right';
  readonly y: number; // middle of the text; that of the mark where nothing was in the way
}

export const textWidth = (text: string): number => CHARACTER * [...text].length;

const overlap = (a: Box, b: Box): boolean =>
  a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;

function boxOf({ x, text }: Mark, side: Place['side'], y: number): Box {
  const [near, far] = [GAP / 2, GAP + textWidth(text)];
  const [left, right] = side === 'right' ? [x + near, x + far] : [x - far, x - near];
  return { left, right, top: y - LINE_HEIGHT / 2, bottom: y + LINE_HEIGHT / 2 };
}

/** Middles as near to the wanted ones as a line's height between them allows, in the same order. */
export function spread(wanted: readonly number[]): number[] {
  // Runs of lines that touch; each lies where the mean of what its lines want is, and takes in those it meets.
  const runs: { from: number; count: number; sum: number }[] = [];
  const top = ({ count, sum }: { count: number; sum: number }): number => sum / count - ((count - 1) / 2) * LINE_HEIGHT;
  for (const [i, y] of wanted.entries()) {
    let run = { from: i, count: 1, sum: y };
    for (let above = runs.at(-1); above !== undefined; above = runs.at(-1)) {
      if (top(above) + above.count * LINE_HEIGHT <= top(run)) break;
      runs.pop();
      run = { from: above.from, count: above.count + run.count, sum: above.sum + run.sum };
    }
    runs.push(run);
  }
  return runs.flatMap((run) => Array.from({ length: run.count }, (_, i) => top(run) + i * LINE_HEIGHT));
}

/**
 * Places for the names of marks.
 *
 * @param marks - in any order
 * @param taken - boxes that names keep off where the other side of the mark is free
 * @param right - where the chart ends, px
 * @returns a place a mark, in the order of the marks
 */
export function placeLabels(marks: readonly Mark[], taken: readonly Box[], right: number): Place[] {
  const others = marks.map(({ x, y }): Box => ({ left: x - 6, right: x + 6, top: y - 6, bottom: y + 6 }));
  const isFree = (mark: Mark, side: Place['side']): boolean => {
    const box = boxOf(mark, side, mark.y);
    const blocked = [...taken, ...others.filter((_, i) => Math.abs(marks[i]!.x - mark.x) > 12)];
    return box.left >= 0 && box.right <= right && !blocked.some((one) => overlap(box, one));
  };
  const sides = marks.map((mark) => (!isFree(mark, 'right') && isFree(mark, 'left') ? 'left' : 'right'));
  const places: Place[] = marks.map(({ y }, i) => ({ side: sides[i]!, y }));
  // Names one above the other form columns: whatever shares a stretch of x, over any number of steps.
  const spans = marks.map((mark, i) => boxOf(mark, sides[i]!, mark.y));
  const order = marks.map((_, i) => i).sort((a, b) => spans[a]!.left - spans[b]!.left);
  let column: number[] = [];
  let end = Number.NEGATIVE_INFINITY;
  const close = (): void => {
    column.sort((a, b) => marks[a]!.y - marks[b]!.y || a - b);
    const middles = spread(column.map((i) => marks[i]!.y));
    for (const [k, i] of column.entries()) places[i] = { side: sides[i]!, y: middles[k]! };
    column = [];
  };
  for (const i of order) {
    if (spans[i]!.left >= end) close();
    column.push(i);
    end = Math.max(end, spans[i]!.right);
  }
  close();
  return places;
}
