"""The frame and the style of a run's report: one page that needs nothing from elsewhere."""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title}</title>
<style>
:root { --ground: #ffffff; --text: #1d2126; --quiet: #68707a; --line: #dfe2e6; --good: #1e6b45; --bad: #a04412; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #131619; --text: #e7e9ec; --quiet: #969ea8; --line: #2c3238; --good: #6cc39a; --bad: #e39a62; }
}
* { box-sizing: border-box; margin: 0; }
html { color-scheme: light dark; -webkit-text-size-adjust: 100%; }
body { background: var(--ground); color: var(--text); max-width: 68rem; margin: 0 auto; padding: 4rem 1.5rem 3rem;
  font: 1rem/1.5 ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 2.25rem; line-height: 1.15; font-weight: 650; letter-spacing: -.02em; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; line-height: 1.3; font-weight: 650; letter-spacing: -.005em; margin-bottom: .25rem;
  overflow-wrap: anywhere; }
.lede { font-size: 1.125rem; max-width: 44rem; margin-top: .75rem; }
.summary { margin-top: .75rem; max-width: 44rem; }
.quiet, .summary { color: var(--quiet); }
section { margin-top: 3.5rem; }
section > p { font-size: .875rem; }
table { border-collapse: collapse; width: 100%; margin-top: 1rem; font-size: .9375rem; }
th, td { text-align: left; vertical-align: baseline; padding: .55rem 1.5rem .55rem 0; font-weight: 400; }
th:last-child, td:last-child { padding-right: 0; }
thead th { color: var(--quiet); font-size: .8125rem; padding-block: .4rem; border-bottom: 1px solid var(--line); }
tbody th { font-weight: 600; }
td b { font-weight: 650; }
small { display: block; font-size: .8125rem; line-height: 1.35; color: var(--quiet); }
.number { text-align: right; font-variant-numeric: tabular-nums; }
td.number { white-space: nowrap; }
td.number small { white-space: normal; margin-left: auto; max-width: 14rem; }
.good { color: var(--good); }
.bad { color: var(--bad); }
.good i, .bad i { font-style: normal; font-size: .7em; vertical-align: .1em; }
.none { color: var(--quiet); }
td.good, td.bad { white-space: nowrap; }
.measures .first > * { border-top: 1px solid var(--line); }
.measures .first:first-child > * { border-top: 0; }
.facts { width: auto; font-size: .875rem; }
.facts th { color: var(--quiet); font-weight: 400; white-space: nowrap; }
.facts th, .facts td { padding-block: .3rem; overflow-wrap: anywhere; }
.plots, .pictures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr));
  gap: 2rem 2.5rem; margin-top: 1rem; }
.pictures { grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); }
figure { min-width: 0; }
figcaption, figure p { font-size: .875rem; line-height: 1.4; overflow-wrap: anywhere; }
.plots figcaption { font-weight: 600; margin-bottom: .4rem; }
figure p { font-size: .8125rem; margin-top: .25rem; }
.pictures figcaption { color: var(--quiet); margin-top: .5rem; }
img { display: block; width: 100%; height: auto; }
.pictures img { border-radius: 3px; }
footer { margin-top: 4rem; padding-top: 1rem; border-top: 1px solid var(--line); color: var(--quiet);
  font-size: .8125rem; }
@media (min-width: 44.01rem) {
  .again th { color: transparent; user-select: none; }
}
@media (max-width: 44rem) {
  body { padding: 2rem 1.1rem; }
  h1 { font-size: 1.75rem; }
  section { margin-top: 2.75rem; }
  .measures thead { position: absolute; clip-path: inset(50%); width: 1px; height: 1px; overflow: hidden; }
  .measures, .measures tbody, .measures tr, .measures th, .measures td { display: block; }
  .measures tr { padding: .8rem 0; border-top: 1px solid var(--line); }
  .measures tr:first-child { border-top: 0; }
  .measures tr > *, .measures tr.first > * { padding: .1rem 0; border: 0; }
  .measures td { display: grid; grid-template-columns: 8rem minmax(0, 1fr); text-align: left; white-space: normal; }
  .measures .none { display: none; }
  .measures td::before { content: attr(data-label); color: var(--quiet); }
  .measures td > *, .measures td small { grid-column: 2; margin: 0; max-width: none; }
  .facts th { white-space: normal; }
}
</style>
</head>
<body>
<header>
<h1>{title}</h1>
{lede}
<p class="summary">{summary}</p>
</header>
{sections}
<footer>{remarks}<p>Everframe. Plots and pictures lie beside this page in the folder report.</p></footer>
</body>
</html>
"""
