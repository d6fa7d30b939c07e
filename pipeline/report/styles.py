"""The page's one style sheet: system fonts, light and dark, narrow and wide screens; no colour or font comes from elsewhere."""

CSS = """
:root {
  color-scheme: light dark;
  --paper: #fbfaf7; --card: #ffffff; --ink: #1d1c22; --soft: #6b6874; --faint: #9d99a6; --edge: #e7e3da; --wash: #f3f0e9;
  --accent: #d9480f; --accent-wash: #fff1e8; --good: #2b8a3e; --good-wash: #e6f6e9; --bad: #b4637a; --bad-wash: #faeef1;
  --drawn: #5c6f9c; --bound: #b3afba; --shadow: 0 1px 2px rgb(40 30 20 / 6%), 0 6px 24px rgb(40 30 20 / 5%);
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #16151a; --card: #1f1e25; --ink: #eceaf1; --soft: #a6a2b2; --faint: #777283; --edge: #33313c; --wash: #292732;
    --accent: #ff8a4c; --accent-wash: #3a2619; --good: #69db7c; --good-wash: #1d3323; --bad: #e599ad; --bad-wash: #38242b;
    --drawn: #93a7d8; --bound: #63606d; --shadow: 0 1px 2px rgb(0 0 0 / 40%);
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 3.6rem; }
body {
  margin: 0; background: var(--paper); color: var(--ink); line-height: 1.55; font-size: 16px; -webkit-text-size-adjust: 100%;
  font-family: ui-sans-serif, system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", sans-serif;
}
main, header .inner, nav .inner, footer { max-width: 1180px; margin: 0 auto; padding: 0 1.25rem; }
h1, h2, h3 { line-height: 1.2; letter-spacing: -.015em; margin: 0; text-wrap: balance; }
h1 { font-size: clamp(1.9rem, 4.5vw, 3rem); font-weight: 750; }
h2 { font-size: 1.55rem; margin-bottom: .35rem; }
h3 { font-size: 1rem; }
p { margin: 0; max-width: 72ch; overflow-wrap: anywhere; }
.lead { font-size: 1.12rem; color: var(--soft); margin-top: .9rem; }
.note { color: var(--soft); font-size: .93rem; margin-bottom: 1.1rem; }
code { font-family: ui-monospace, "SF Mono", Menlo, Consolas, monospace; font-size: .88em; overflow-wrap: anywhere; }
header { padding: 3.2rem 0 2rem; }
.badge {
  display: inline-block; font-size: .76rem; font-weight: 650; letter-spacing: .04em; padding: .18rem .65rem; border-radius: 99px;
  background: var(--accent-wash); color: var(--accent); margin-bottom: .9rem;
}
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(170px, 1fr)); gap: .8rem; margin-top: 1.8rem; }
.fact { background: var(--card); border-radius: 14px; padding: .9rem 1.1rem; box-shadow: var(--shadow); }
.fact b { display: block; font-size: 1.75rem; line-height: 1.15; font-variant-numeric: tabular-nums; letter-spacing: -.02em; }
.fact span { color: var(--soft); font-size: .86rem; display: block; }
.fact.main b { color: var(--accent); }
nav { position: sticky; top: 0; z-index: 5; background: color-mix(in srgb, var(--paper) 88%, transparent); backdrop-filter: blur(8px);
  border-bottom: 1px solid var(--edge); }
nav .inner { display: flex; gap: 1.3rem; overflow-x: auto; padding-top: .7rem; padding-bottom: .7rem; scrollbar-width: none; }
nav a { color: var(--soft); text-decoration: none; font-size: .92rem; white-space: nowrap; }
nav a:hover, nav a:focus-visible { color: var(--accent); }
section { margin: 2.8rem 0 0; }
footer { color: var(--faint); font-size: .86rem; padding-top: 3rem; padding-bottom: 3rem; }
.panel { background: var(--card); border-radius: 16px; box-shadow: var(--shadow); padding: 1.1rem 1.25rem; }
.panels { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(300px, 100%), 1fr)); gap: 1rem; }
.panels.curves { grid-template-columns: repeat(auto-fill, minmax(min(240px, 100%), 1fr)); }
.panel h3 { display: flex; justify-content: space-between; gap: .6rem; align-items: baseline; margin-bottom: .5rem; }
.panel h3 small { white-space: nowrap; font-weight: 400; color: var(--faint); font-size: .78rem; }
.stage { margin: 1.5rem 0 .7rem; }

.scroll { overflow-x: auto; background: var(--card); border-radius: 16px; box-shadow: var(--shadow); }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { padding: .42rem .8rem; text-align: left; vertical-align: baseline; }
th { font-weight: 600; }
td.number, th.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tbody tr + tr td, tbody tr + tr th { border-top: 1px solid var(--edge); }
thead th { color: var(--soft); font-size: .84rem; border-bottom: 1px solid var(--edge); vertical-align: bottom; }
thead th small { display: block; font-weight: 400; color: var(--faint); font-size: .74rem; }
tbody th:first-child { position: sticky; left: 0; background: var(--card); white-space: nowrap; }
tr.group th { font-size: .74rem; letter-spacing: .07em; text-transform: uppercase; color: var(--faint); padding-top: 1.1rem; }
th small { font-weight: 400; color: var(--faint); }
td small { display: block; color: var(--faint); font-size: .72rem; }
td.best { font-weight: 700; }
td.best small { font-weight: 400; }
.bound { color: var(--faint); }
td.main, th.main { background: color-mix(in srgb, var(--accent-wash) 55%, transparent); }
thead th.main { color: var(--accent); }
.arrow { color: var(--faint); font-size: .85em; margin-left: .25rem; }
.key { color: var(--faint); font-size: .84rem; margin: .7rem 0 0; }
td.win { color: var(--good); } td.loss { color: var(--bad); }

.pic { display: block; width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: 16%; background: var(--wash);
  outline: 1px solid color-mix(in srgb, var(--edge) 70%, transparent); outline-offset: -1px; }
.pic.broken { display: grid; place-items: center; text-align: center; color: var(--faint); font-size: .62rem; line-height: 1.1;
  border: 1px dashed var(--faint); overflow: hidden; }
.sheet { display: grid; gap: .55rem; align-items: center; min-width: 620px; padding: 1.1rem 1.25rem; }
.sheet .style { font-size: .88rem; font-weight: 600; }
.sheet .concept { font-size: .78rem; color: var(--soft); text-align: center; line-height: 1.2; overflow-wrap: anywhere; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(540px, 100%), 1fr)); gap: 1.1rem; }
.card { background: var(--card); border-radius: 18px; box-shadow: var(--shadow); padding: 1.1rem 1.2rem 1.2rem; min-width: 0; }
.card header { padding: 0; display: flex; flex-wrap: wrap; align-items: baseline; gap: .2rem .7rem; margin-bottom: .75rem; }
.card header h3 { overflow-wrap: anywhere; }
.card header span { color: var(--soft); font-size: .86rem; overflow-wrap: anywhere; }
.row-label { font-size: .74rem; color: var(--faint); margin: 0 0 .35rem; }
.history { display: grid; grid-template-columns: repeat(10, minmax(0, 1fr)); gap: .38rem; }
.history .slot { position: relative; padding: 2px; border: 2px solid transparent; border-radius: 22%; }
.history .slot .pic { opacity: .62; }
.history .slot.hit { border-color: var(--accent); }
.history .slot.hit .pic { opacity: 1; }
.history .slot i {
  position: absolute; right: -5px; top: -6px; min-width: 1.1rem; height: 1.1rem; border-radius: 99px; background: var(--accent); color: var(--card);
  font: 700 .66rem/1.1rem ui-sans-serif, system-ui, sans-serif; text-align: center;
}
.chips { display: flex; flex-wrap: wrap; gap: .3rem; margin: .8rem 0 .95rem; }
.chip { background: var(--wash); border-radius: 99px; padding: .1rem .6rem; font-size: .8rem; color: var(--soft); overflow-wrap: anywhere; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(76px, 1fr)); gap: .7rem; }
.tile { min-width: 0; text-align: center; max-width: 128px; }
.tile .frame { padding: 3px; border: 2px solid transparent; border-radius: 18%; }
.tile.main .frame { border-color: var(--accent); }
.tile.truth .frame { border: 2px dashed var(--bound); }
.tile b { display: block; font-size: .84rem; margin-top: .3rem; overflow-wrap: anywhere; }
.tile.main b { color: var(--accent); }
.tile small { display: block; color: var(--faint); font-size: .74rem; line-height: 1.25; }
.verdict { display: inline-block; border-radius: 99px; padding: 0 .45rem; font-size: .72rem; font-weight: 650; margin-top: .18rem; }
.verdict.yes { background: var(--good-wash); color: var(--good); }
.verdict.no { background: var(--bad-wash); color: var(--bad); }

.chart { width: 100%; height: auto; display: block; overflow: visible; }
.chart text { font-family: inherit; font-size: 11px; fill: var(--soft); }
.chart text.tick { fill: var(--faint); font-size: 9.5px; }
.chart text.value { font-variant-numeric: tabular-nums; }
.chart text.main { fill: var(--accent); font-weight: 700; }
.chart text.bound { fill: var(--faint); }
.chart .grid { stroke: var(--edge); stroke-width: 1; }
.chart .bar { stroke-width: 3; stroke-linecap: round; opacity: .45; stroke: var(--drawn); }
.chart .dot { fill: var(--drawn); }
.chart .main.bar { stroke: var(--accent); } .chart .main.dot { fill: var(--accent); }
.chart .bound.bar { stroke: var(--bound); } .chart .bound.dot { fill: var(--card); stroke: var(--bound); stroke-width: 2; }
.chart .line { fill: none; stroke: var(--accent); stroke-width: 1.8; stroke-linejoin: round; }
.chart .faint { opacity: .3; stroke-width: 1; }

details { background: var(--card); border-radius: 16px; box-shadow: var(--shadow); padding: .85rem 1.25rem; margin-top: .9rem; }
details .scroll { box-shadow: none; border-radius: 0; margin-top: .6rem; }
summary { cursor: pointer; font-weight: 600; }
summary span { color: var(--faint); font-weight: 400; }
td.wrap { overflow-wrap: anywhere; white-space: pre-wrap; }
@media (max-width: 640px) {
  header { padding-top: 2rem; }
  .history { grid-template-columns: repeat(7, minmax(0, 1fr)); }
  .tiles { grid-template-columns: repeat(3, minmax(0, 1fr)); }
  .tile { max-width: none; }
}
@media print { nav { display: none; } .card, .panel { break-inside: avoid; } }
"""
