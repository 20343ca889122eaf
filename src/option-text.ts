// What an option allows, in words, from the JSON Schema of its options table: the same text in a flag's help, in the
// refusal of a flag, in the refusal of a key of a config file and in docs/config.md.

/** The part of a JSON Schema, as zod writes it, that describes options. */
export interface Leaf {
  readonly type?: string | readonly string[];
  readonly description?: string;
  readonly default?: unknown;
  readonly enum?: readonly unknown[];
  readonly const?: unknown;
  readonly anyOf?: readonly Leaf[];
  readonly items?: Leaf | false;
  readonly prefixItems?: readonly Leaf[];
  readonly minItems?: number;
  readonly properties?: Readonly<Record<string, Leaf>>;
  readonly minimum?: number;
  readonly maximum?: number;
  readonly exclusiveMinimum?: number;
  readonly exclusiveMaximum?: number;
  readonly pattern?: string;
  readonly words?: string; // what a pattern means
  readonly flag?: string | false;
  readonly ranges?: boolean; // a list of integers that the command line may write as 0-9,17
}

/** The forms a value may take, each of one type: zod writes a nullable string as a list of types, other unions as anyOf. */
export function alternatives(leaf: Leaf): readonly Leaf[] {
  if (leaf.anyOf) return leaf.anyOf;
  if (leaf.type === undefined || typeof leaf.type === 'string') return [leaf];
  return leaf.type.map((type) => (type === 'null' ? { type } : { ...leaf, type }));
}

/** The leaf at a path of keys and array indices below a schema; undefined where the schema has no such place. */
export function leafAt(leaf: Leaf, path: readonly PropertyKey[]): Leaf | undefined {
  const [part, ...rest] = path;
  if (part === undefined) return leaf;
  for (const form of alternatives(leaf)) {
    const next =
      typeof part === 'number'
        ? (form.prefixItems?.[part] ?? (form.items || undefined))
        : form.properties?.[String(part)];
    if (next) return leafAt(next, rest);
  }
  return undefined;
}

/** What a leaf allows: `integer 1 to 100`, `number > 0`, `resnet18 | convnet`, `string or none`. */
export function range(leaf: Leaf): string {
  const forms = alternatives(leaf);
  if (forms.length > 1) return forms.map((form) => (form.type === 'null' ? 'none' : range(form))).join(' or ');
  if (leaf.enum) return leaf.enum.join(' | ');
  if (leaf.const !== undefined) return String(leaf.const);
  if (leaf.words !== undefined) return leaf.words;
  if (leaf.pattern !== undefined) return `string matching ${leaf.pattern}`;
  if (leaf.type === 'array') {
    if (leaf.prefixItems) {
      const parts = leaf.prefixItems.map(range);
      return new Set(parts).size === 1 ? `list of ${parts.length}, each ${parts[0]},` : parts.join(', ');
    }
    return `${leaf.minItems ? 'non-empty ' : ''}list of ${leaf.items ? range(leaf.items) : 'values'}`;
  }
  const whole = (n: number | undefined): number | undefined =>
    Math.abs(n ?? 0) >= Number.MAX_SAFE_INTEGER ? undefined : n;
  const low = whole(leaf.minimum);
  const high = whole(leaf.maximum);
  const type = String(leaf.type ?? 'value');
  if (low !== undefined && high !== undefined) return `${type} ${low} to ${high}`;
  const bounds = [
    leaf.exclusiveMinimum !== undefined && `> ${leaf.exclusiveMinimum}`,
    low !== undefined && `>= ${low}`,
    leaf.exclusiveMaximum !== undefined && `< ${leaf.exclusiveMaximum}`,
    high !== undefined && `<= ${high}`,
  ].filter(Boolean);
  return [type, bounds.join(' and ')].filter(Boolean).join(' ');
}
