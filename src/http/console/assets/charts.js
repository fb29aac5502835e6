// Curves of the last hour. The library draws on a canvas; what it shows is said in words beside it.

import { html } from './vendor/lit-html.js';
import { duration, number } from './format.js';
import { state } from './state.js';

const { uPlot } = globalThis;
const dark = matchMedia('(prefers-color-scheme: dark)');
const alive = new Map();
const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
export const COLOURS = ['--c1', '--c2', '--c3'];

/** Seconds of the past that charts show. */
export const range = { seconds: 900 };

const show = (unit, value) => (unit === 'seconds' ? duration(value) : number(value));

/** Times at which a switch ended, as marks. */
function marks(plot) {
  const { ctx, bbox } = plot;
  ctx.save();
  ctx.strokeStyle = css('--accent');
  ctx.fillStyle = css('--accent');
  ctx.setLineDash([4, 4]);
  ctx.font = `${11 * devicePixelRatio}px sans-serif`;
  for (const s of state.history) {
    const at = Date.parse(s.ended ?? s.begun) / 1e3;
    if (s.state !== 'done' || at < plot.scales.x.min || at > plot.scales.x.max) continue;
    const x = plot.valToPos(at, 'x', true);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    ctx.fillText(s.goal, x + 4, bbox.top + 11 * devicePixelRatio);
  }
  ctx.restore();
}

/** The time asked for, or since the process is known; never less than two minutes. */
function xRange() {
  const now = Date.now() / 1e3;
  const first = state.metrics.times.length ? Date.parse(state.metrics.times[0]) / 1e3 : now;
  return [Math.max(now - range.seconds, Math.min(first, now - 120)), now];
}

function options(width, unit, names) {
  const axis = { stroke: css('--muted'), grid: { stroke: css('--line'), width: 1 }, ticks: { show: false }, font: '11px sans-serif' };
  return {
    width,
    height: 150,
    cursor: { y: false, points: { size: 5 } },
    legend: { show: false },
    tzDate: (seconds) => uPlot.tzDate(new Date(seconds * 1e3), 'UTC'),
    scales: { x: { range: xRange }, y: { range: (_, min, max) => [0, max > 0 ? max * 1.15 : 1] } },
    axes: [{ ...axis, space: 70, size: 34, values: (_, ticks) => ticks.map((t) => new Date(t * 1e3).toISOString().slice(11, 19)) }, { ...axis, size: 52, space: 34, values: (_, ticks) => ticks.map((t) => show(unit, t)) }],
    series: [{}, ...names.map((name, i) => ({ label: name, stroke: css(COLOURS[i]), width: 1.5, spanGaps: false, points: { show: false } }))],
    hooks: { draw: [marks] },
  };
}

function data(names) {
  const since = Date.now() / 1e3 - range.seconds;
  const times = state.metrics.times.map((t) => Date.parse(t) / 1e3);
  const first = times.findIndex((t) => t >= since);
  const from = first < 0 ? times.length : first;
  const x = [];
  const ys = names.map(() => []);
  for (let i = from; i < times.length; i += 1) {
    // Nothing was sampled for a while: the line is interrupted.
    if (x.length && times[i] - x.at(-1) > 3 * (state.metrics.every ?? 5)) {
      x.push(x.at(-1) + 1);
      ys.forEach((y) => y.push(null));
    }
    x.push(times[i]);
    names.forEach((name, s) => ys[s].push(state.metrics.figures.get(name)?.values[i] ?? null));
  }
  return [x, ...ys];
}

function draw(element, id, unit, names) {
  const width = Math.max(220, Math.floor(element.clientWidth));
  let kept = alive.get(id);
  if (kept && (kept.element !== element || kept.dark !== dark.matches)) {
    kept.plot.destroy();
    kept = null;
  }
  if (!kept) {
    element.replaceChildren();
    kept = { element, dark: dark.matches, seen: '', plot: new uPlot(options(width, unit, names), data(names), element) };
    alive.set(id, kept);
    return;
  }
  const seen = `${state.metrics.times.at(-1)} ${range.seconds} ${state.history[0]?.id}${state.history[0]?.state}`;
  if (kept.plot.width !== width) kept.plot.setSize({ width, height: 150 });
  if (kept.seen === seen) return;
  kept.seen = seen;
  kept.plot.setData(data(names));
}

/** Draws what is on the page now, and forgets what no longer is. */
export function drawCharts(root) {
  const there = new Set();
  for (const element of root.querySelectorAll('.plot')) {
    there.add(element.id);
    draw(element, element.id, element.dataset.unit, element.dataset.names.split(' '));
  }
  for (const [id, kept] of alive) {
    if (there.has(id)) continue;
    kept.plot.destroy();
    alive.delete(id);
  }
}

/** A chart of up to three figures; `labels` name them. */
export function chart(title, unit, names, labels = names) {
  const now = names.map((name) => state.metrics.figures.get(name)?.values.at(-1) ?? null);
  return html`<figure class="chart">
    <figcaption><strong>${title}</strong>${labels.map((label, i) => html`<span class="key k${i + 1}">${label}
      <b>${show(unit, now[i])}</b></span>`)}</figcaption>
    <div class="plot" id="plot-${names.join('-')}" data-unit=${unit} data-names=${names.join(' ')} aria-hidden="true"></div>
  </figure>`;
}
