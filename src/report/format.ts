// Numbers as people read them: bytes, shares, seconds, ratios. Used by tables, the HTML report and progress lines, so
// that one number never has two spellings. Shares are in [0, 1] in code and percent with one decimal in print.

/** Bytes with a binary unit and at least three significant digits: `812 B`, `1.50 KiB`, `40.2 MiB`. */
export function formatBytes(bytes: number): string {
  if (!Number.isFinite(bytes)) return '-';
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let value = bytes;
  let unit = 0;
  while (Math.abs(value) >= 1023.5 && unit < units.length - 1) {
    value /= 1024;
    unit++;
  }
  if (unit === 0) return `${Math.round(value * 10) / 10} B`;
  return `${value.toFixed(value < 9.995 ? 2 : value < 99.95 ? 1 : 0)} ${units[unit]}`;
}

/** A share in [0, 1] as percent with one decimal: 0.9731 -> `97.3 %`. */
export function formatShare(share: number): string {
  return Number.isFinite(share) ? `${(share * 100).toFixed(1)} %` : '-';
}

/** Mean and sample deviation of shares: `97.3 % ± 0.4`; without the deviation where there is only one run. */
export function formatMean(score: {
  readonly top1: number;
  readonly std: number;
  readonly runs: readonly number[];
}): string {
  return score.runs.length > 1
    ? `${formatShare(score.top1)} ± ${(score.std * 100).toFixed(1)}`
    : formatShare(score.top1);
}

/** Seconds as a duration: `0.4 s`, `42 s`, `3 min 05 s`, `2 h 07 min`, `3 d 04 h`. */
export function formatSeconds(seconds: number): string {
  if (!Number.isFinite(seconds) || seconds < 0) return '-';
  if (seconds < 9.95) return `${seconds.toFixed(1)} s`;
  const s = Math.round(seconds);
  const two = (n: number): string => String(n).padStart(2, '0');
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${two(s % 60)} s`;
  const m = Math.round(s / 60);
  if (m < 24 * 60) return `${Math.floor(m / 60)} h ${two(m % 60)} min`;
  const h = Math.round(m / 60);
  return `${Math.floor(h / 24)} d ${two(h % 24)} h`;
}

/** A compression ratio: `40x`, `9.9x`. */
export function formatRatio(ratio: number): string {
  return Number.isFinite(ratio) ? `${ratio < 9.95 ? ratio.toFixed(1) : Math.round(ratio)}x` : '-';
}

/** A loss or rate with about four significant digits and no trailing noise: 0.0123, 1.234, 12.3, 1234. */
export function formatNumber(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size < 1e-3 || size >= 1e6) return value.toExponential(2);
  return size >= 1000 ? String(Math.round(value)) : String(Number(value.toPrecision(size < 100 ? 3 : 4)));
}

/** The plural of a noun of progress lines and tables: step -> `steps`, batch -> `batches`. */
export function plural(noun: string): string {
  return /(s|x|ch|sh)$/.test(noun) ? `${noun}es` : `${noun}s`;
}

/** A count with its noun, given in the singular: `1 step`, `580 steps`. */
export function counted(count: number, noun: string): string {
  return `${count} ${count === 1 ? noun : plural(noun)}`;
}
