// The arithmetic of run.json: how what one process measured joins what an interrupted one measured before it.

const isPlain = (v: unknown): v is Record<string, unknown> => typeof v === 'object' && v !== null && !Array.isArray(v);

/**
 * Merges measurements. Nested objects merge, `seconds` add, names that begin with `peak` keep the larger number, lists
 * and everything else are replaced. Neither argument is changed.
 */
export function mergeNotes(before: Record<string, unknown>, added: Record<string, unknown>): Record<string, unknown> {
  const merged = { ...before };
  for (const [name, value] of Object.entries(added)) {
    const old = merged[name];
    if (isPlain(old) && isPlain(value)) merged[name] = mergeNotes(old, value);
    else if (typeof old !== 'number' || typeof value !== 'number') merged[name] = value;
    else if (name === 'seconds') merged[name] = old + value;
    else merged[name] = name.startsWith('peak') ? Math.max(old, value) : value;
  }
  return merged;
}
