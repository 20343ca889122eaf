// The style sheet of report.html: one column, system fonts, light and dark by the reader's preference. The chart colours
// c1 to c6 are told apart by colour-blind readers (Okabe and Ito's palette, lightened for dark).

/** The variables that charts and pages take their colours from. */
export const THEME = `:root { color-scheme: light dark; --ink: #1b1f24; --muted: #667079; --rule: #e3e6ea; --paper: #ffffff; --panel: #f6f7f9;
  --c1: #0072b2; --c2: #d55e00; --c3: #009e73; --c4: #cc79a7; --c5: #b58900; --c6: #56b4e9; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e8eb; --muted: #9aa4ae; --rule: #31373e; --paper: #15181c;
  --panel: #1d2126; --c1: #58b0ea; --c2: #ff9a4d; --c3: #3fd0a4; --c4: #e5a3c8; --c5: #e3bf4a; --c6: #8fd3ff; } }`;

export const STYLE = `
${THEME}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', Arial, sans-serif; }
main { max-width: 960px; margin: 0 auto; padding: 40px 24px 64px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 19px; margin: 48px 0 12px; padding-top: 16px; border-top: 1px solid var(--rule); }
h3 { font-size: 15px; margin: 24px 0 4px; }
p { margin: 0 0 12px; max-width: 70ch; } .note { color: var(--muted); font-size: 14px; }
.hero { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: 12px; margin: 24px 0; }
.hero div { background: var(--panel); border-radius: 8px; padding: 12px 16px; }
.hero b { display: block; font-size: 25px; line-height: 1.25; font-weight: 600; font-variant-numeric: tabular-nums; white-space: nowrap; }
.hero span { color: var(--muted); font-size: 13px; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: 15px; }
th { text-align: left; font-weight: 500; color: var(--muted); font-size: 13px; }
th, td { padding: 6px 16px 6px 0; border-bottom: 1px solid var(--rule); vertical-align: baseline; }
th.n, td.n { text-align: right; white-space: nowrap; } td.m { color: var(--muted); font-size: 14px; }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: 13px; }
pre { background: var(--panel); border-radius: 8px; padding: 16px; overflow-x: auto; line-height: 1.45; margin: 0; }
figure { margin: 0 0 8px; } svg { display: block; width: 100%; height: auto; }
svg text { font-family: inherit; }
.class { display: grid; grid-template-columns: var(--label) 1fr; gap: 12px; align-items: center; padding: 4px 0; }
.class > span { color: var(--muted); font-size: 13px; overflow-wrap: anywhere; }
.class > div { display: grid; grid-template-columns: repeat(10, minmax(0, 1fr)); gap: 4px; }
.side { display: grid; grid-template-columns: max-content repeat(var(--sets), minmax(0, 1fr)); gap: 6px 16px; align-items: center; }
.side > span { color: var(--muted); font-size: 13px; max-width: 12ch; overflow-wrap: anywhere; } .side > b { font-size: 13px; }
.side > div { display: grid; grid-template-columns: repeat(5, minmax(0, 1fr)); gap: 3px; }
.side img { width: 100%; aspect-ratio: 1; object-fit: contain; background: var(--panel); border-radius: 2px; display: block; }
.classes { margin-top: 16px; }
.class img { width: 100%; aspect-ratio: 1; object-fit: contain; background: var(--panel); border-radius: 3px; display: block; }
img.px { image-rendering: pixelated; }
.shots { display: grid; grid-template-columns: repeat(3, minmax(0, 1fr)); gap: 16px 12px; } .shots figure { margin: 0; }
.shots img { width: 100%; display: block; border-radius: 3px; } figcaption { color: var(--muted); font-size: 13px; padding-top: 4px; }
@media (max-width: 600px) { main { padding: 24px 16px 48px; } h1 { font-size: 23px; } .hero b { font-size: 21px; }
  .hero { grid-template-columns: 1fr 1fr; } .class { grid-template-columns: 1fr; gap: 2px; padding: 6px 0; }
  .class > div { grid-template-columns: repeat(5, minmax(0, 1fr)); } figure { overflow-x: auto; } figure svg { min-width: 560px; } }
@media print { h2 { break-after: avoid; } figure, .class { break-inside: avoid; } }
`;
