// The frame of every HTML page of this package: no script, no link to anything outside (a content security policy in the
// page enforces it), and every text that comes from files escaped.

import { STYLE } from './style.ts';

/** A whole document. @param title - escaped here. @param body - parts of HTML; empty ones are left out */
export function page(title: string, body: readonly string[]): string {
  const policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'";
  return [
    '<!doctype html>',
    '<html lang="en"><head><meta charset="utf-8">',
    `<meta http-equiv="Content-Security-Policy" content="${policy}">`,
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    `<title>${escapeHtml(title)}</title><style>${STYLE}</style></head>`,
    `<body><main>\n${body.filter((part) => part !== '').join('\n')}\n</main></body></html>\n`,
  ].join('\n');
}

export function escapeHtml(text: string): string {
  const entities: Record<string, string> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
  return text.replace(/[&<>"']/g, (c) => entities[c] ?? c);
}

/** A table. Header cells may begin with '>'; `classes` are the columns' style classes: n for numbers, m for remarks. */
export function table(
  header: readonly string[],
  rows: readonly (readonly string[])[],
  classes: readonly string[],
): string {
  const open = (tag: string, c: number): string => (classes[c] ? `<${tag} class="${classes[c]}">` : `<${tag}>`);
  const cells = (tag: string, row: readonly string[]): string =>
    `<tr>${row.map((text, c) => `${open(tag, c)}${escapeHtml(text.replace(/^>/, ''))}</${tag}>`).join('')}</tr>`;
  return `<div class="wide"><table><thead>${cells('th', header)}</thead><tbody>${rows.map((row) => cells('td', row)).join('')}</tbody></table></div>`;
}
