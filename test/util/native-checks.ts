// Every refusal written in the C++ sources: each LPLD_CHECK and each thrown Error with its code and the shape of its
// message, so that a test can say which of them nobody has ever seen.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';

export interface NativeCheck {
  readonly where: string; // file:line
  readonly code: string; // E_CONFIG ...
  /** The message with anything in the place of what is put in at run time; null where nothing of it is literal. */
  readonly message: RegExp | null;
}

const root = join(import.meta.dirname, '..', '..');

/** Splits what stands between the parenthesis at `open` and its partner at the commas of that level. */
function argumentsAt(source: string, open: number): string[] {
  const parts: string[] = [];
  let depth = 0;
  let start = open + 1;
  for (let i = open; i < source.length; i++) {
    const c = source[i]!;
    if (c === '"') {
      for (i++; source[i] !== '"'; i++) if (source[i] === '\\') i++;
    } else if (c === "'") i += source[i + 1] === '\\' ? 3 : 2;
    else if ('([{'.includes(c)) depth++;
    else if (')]}'.includes(c)) {
      depth--;
      if (depth === 0) return [...parts, source.slice(start, i)].map((part) => part.trim());
    } else if (c === ',' && depth === 1) {
      parts.push(source.slice(start, i));
      start = i + 1;
    }
  }
  throw new Error(`no closing parenthesis after ${source.slice(open, open + 60)}`);
}

const LITERALS = /^("(?:[^"\\]|\\.)*"\s*)+$/;
const isLiteral = (part: string): boolean => LITERALS.test(part);

function messageOf(parts: readonly string[]): RegExp | null {
  if (!parts.some(isLiteral)) return null;
  const pattern = parts.map((part) => {
    if (!isLiteral(part)) return '.*';
    const text = part.match(/"(?:[^"\\]|\\.)*"/g)!.map((literal) => JSON.parse(literal) as string);
    return text.join('').replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  });
  return new RegExp(`^${pattern.join('')}$`, 's');
}

/** The checks of all .cpp and .h files of some folders, relative to the root. */
export function nativeChecks(folders: readonly string[]): NativeCheck[] {
  const files = folders.flatMap((folder) =>
    readdirSync(join(root, folder))
      .filter((name) => /\.(cpp|h)$/.test(name) && name !== 'error.h')
      .sort()
      .map((name) => `${folder}/${name}`),
  );
  return files.flatMap((file) => {
    const source = readFileSync(join(root, file), 'utf8');
    return [...source.matchAll(/\bLPLD_CHECK\(|\bthrow Error\(/g)].map((found) => {
      const open = found.index + found[0].length - 1;
      const given = argumentsAt(source, open);
      const check = found[0].startsWith('LPLD');
      const code = check ? given[1]! : given[0]!.replace('Code::', '');
      let message = check ? given.slice(2) : [given[1]!];
      if (!check && message[0]!.startsWith('text(')) message = argumentsAt(message[0]!, 'text('.length - 1);
      const line = source.slice(0, found.index).split('\n').length;
      return { where: `${file}:${line}`, code: `E_${code.toUpperCase()}`, message: messageOf(message) };
    });
  });
}
