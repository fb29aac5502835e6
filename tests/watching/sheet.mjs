// A contact sheet: every panel, drawn from what a run of `watch.mjs` was answered, at its place. It is not Grafana's
// drawing; it shows whether the figures make a picture. `node sheet.mjs PANELS.JSON FOLDER`: an HTML page a dashboard, and
// a PNG of it where OMS_CHROMIUM names a browser.
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

const CELL = 50;
const ROW = 26;
const GAP = 6;
const COLOURS = ['#3274d9', '#e0752d', '#299c46', '#a352cc', '#d4a017', '#c4162a', '#0a95a8', '#6d5c3f', '#8f3bb8', '#5794f2', '#b877d9', '#37872d'];
const NAMED = { green: '#299c46', red: '#d44a3a', yellow: '#d4a017', blue: '#3274d9', purple: '#8f3bb8', text: '#24292e' };

const escaped = (text) => String(text).replace(/[&<>"]/g, (c) => ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }[c]));

function scaled(value, base, units) {
  let i = 0;
  let left = value;
  while (Math.abs(left) >= base && i < units.length - 1) [left, i] = [left / base, i + 1];
  return [left, units[i]];
}

const digits = (value, decimals) => {
  if (decimals !== undefined) return value.toFixed(decimals);
  const size = Math.abs(value);
  return value.toFixed(size === 0 || size >= 100 || Number.isInteger(value) ? 0 : size >= 10 ? 1 : size >= 1 ? 2 : 3).replace(/(\.\d*?)0+$/, '$1').replace(/\.$/, '');
};

/** A value as its unit says. */
export function shown(value, unit, decimals) {
  if (!Number.isFinite(value)) return '–';
  const put = ([left, word], gap = ' ') => `${digits(left, decimals)}${word && gap}${word}`;
  switch (unit) {
    case 's':
      if (value === 0) return '0 s';
      if (Math.abs(value) < 0.001) return put([value * 1e6, 'µs']);
      if (Math.abs(value) < 1) return put([value * 1e3, 'ms']);
      return value < 120 ? put([value, 's']) : put([value / 60, 'min']);
    case 'percentunit': return `${digits(value * 100, decimals)} %`;
    case 'currencyUSD': return `$${digits(value, decimals)}`;
    case 'bytes': return put(scaled(value, 1024, ['B', 'KiB', 'MiB', 'GiB', 'TiB']));
    case 'decbytes': return put(scaled(value, 1000, ['B', 'kB', 'MB', 'GB', 'TB']));
    case 'reqps': return `${put(scaled(value, 1000, ['', 'K', 'M']), '')} req/s`;
    case 'eps': return `${put(scaled(value, 1000, ['', 'K', 'M']), '')} evt/s`;
    case 'mps': return `${put(scaled(value, 1000, ['', 'K', 'M']), '')} msg/s`;
    case 'cps': return `${put(scaled(value, 1000, ['', 'K', 'M']), '')} c/s`;
    case 'short': return put(scaled(value, 1000, ['', 'K', 'Mil', 'Bil']));
    default: return digits(value, decimals);
  }
}

/** What a value is called and the colour it has, by mappings and thresholds. */
function judged(value, { mappings = [], thresholds, unit, decimals }) {
  const named = mappings[0]?.options[String(value)];
  if (named) return [named.text, NAMED[named.color] ?? named.color];
  const step = thresholds.steps.filter((each) => each.value === null || value >= each.value).at(-1);
  return [shown(value, unit, decimals), NAMED[step.color]];
}

const name = (legend, metric) => (legend ? legend.replace(/{{(\w+)}}/g, (_, label) => metric[label] ?? '') : '');

const seriesOf = (targets) => targets.flatMap(({ legendFormat, series }) => series.map(({ metric, values }) => ({
  name: name(legendFormat, metric), points: values.map(([at, value]) => [Number(at), Number(value)]).filter(([, value]) => Number.isFinite(value)),
})));

function figure({ panel, targets }, { w, h }) {
  const { defaults } = panel.fieldConfig;
  const all = seriesOf(targets);
  const width = w / all.length;
  return all.map((series, i) => {
    const [value, colour] = judged(series.points.at(-1)[1], defaults);
    const text = panel.options.textMode === 'name' ? series.name : value;
    const background = panel.options.colorMode === 'background' ? colour : '#fff';
    const ink = background === '#fff' ? colour : '#fff';
    const size = Math.min(30, (width / (text.length || 1)) * 1.5);
    return `<rect x="${i * width}" width="${width}" height="${h}" fill="${background}"/><text x="${(i + 0.5) * width}" y="${h / 2 + size / 3}" font-size="${size}" fill="${ink}" text-anchor="middle">${escaped(text)}</text><text x="${(i + 0.5) * width}" y="${h - 6}" font-size="9" fill="${ink}" text-anchor="middle">${escaped(text === series.name ? '' : series.name.slice(0, 44))}</text>`;
  }).join('');
}

function lanes({ panel, targets }, { w, h }, { start, end }) {
  const all = seriesOf(targets);
  const lane = h / all.length;
  const left = 150;
  const x = (at) => left + ((at - start) / (end - start)) * (w - left);
  return all.map((series, i) => {
    const step = series.points.length > 1 ? Math.min(...series.points.slice(1).map(([at], k) => at - series.points[k][0])) : 1;
    const bars = series.points.map(([at, value]) => {
      const [, colour] = judged(value, panel.fieldConfig.defaults);
      return `<rect x="${x(at)}" y="${i * lane + 1}" width="${x(at + step) - x(at) + 0.3}" height="${lane - 2}" fill="${colour}"/>`;
    });
    return `<text x="2" y="${i * lane + lane / 2 + 3}" font-size="9">${escaped(series.name.slice(0, 32))}</text>${bars.join('')}`;
  }).join('');
}

function lines({ panel, targets }, { w, h }, { start, end }) {
  const { unit, decimals, thresholds, custom, min } = panel.fieldConfig.defaults;
  const all = seriesOf(targets);
  const stacked = custom.stacking.mode === 'normal';
  if (stacked) {
    const below = new Map();
    for (const series of all) {
      series.points = series.points.map(([at, value]) => {
        below.set(at, (below.get(at) ?? 0) + value);
        return [at, below.get(at)];
      });
    }
  }
  const values = all.flatMap((series) => series.points.map(([, value]) => value));
  const low = Math.min(min ?? Infinity, ...values);
  let high = Math.max(...values);
  if (high <= low) high = low + 1;
  const [left, foot] = [52, 14 + 11 * Math.min(3, Math.ceil(all.length / 3))];
  const x = (at) => left + ((at - start) / (end - start)) * (w - left - 4);
  const y = (value) => 4 + (1 - (value - low) / (high - low)) * (h - foot - 8);
  const grid = [low, (low + high) / 2, high].map((value) => `<line x1="${left}" x2="${w}" y1="${y(value)}" y2="${y(value)}" stroke="#e3e5e8"/><text x="${left - 4}" y="${y(value) + 3}" font-size="9" text-anchor="end" fill="#555">${escaped(shown(value, unit, decimals))}</text>`);
  const bounds = custom.thresholdsStyle.mode === 'off' ? [] : thresholds.steps.filter((step) => step.value !== null && step.value <= high)
    .map((step) => `<line x1="${left}" x2="${w}" y1="${y(step.value)}" y2="${y(step.value)}" stroke="${NAMED[step.color]}" stroke-dasharray="4 3"/>`);
  const drawn = all.map((series, i) => {
    const points = series.points.map(([at, value]) => `${x(at).toFixed(1)},${y(value).toFixed(1)}`);
    const dot = points.length === 1 ? `<circle cx="${points[0].split(',')[0]}" cy="${points[0].split(',')[1]}" r="2" fill="${COLOURS[i % COLOURS.length]}"/>` : '';
    return `<polyline points="${points.join(' ')}" fill="none" stroke="${COLOURS[i % COLOURS.length]}"/>${dot}`;
  });
  const column = (w - 8) / 3;
  const legend = all.slice(0, 9).map((series, i) => `<rect x="${4 + (i % 3) * column}" y="${h - foot + 8 + 11 * Math.floor(i / 3)}" width="7" height="3" fill="${COLOURS[i % COLOURS.length]}"/><text x="${14 + (i % 3) * column}" y="${h - foot + 13 + 11 * Math.floor(i / 3)}" font-size="8.5">${escaped(series.name.slice(0, 26))}${i === 8 && all.length > 9 ? ` … ${all.length - 9} more` : ''}</text>`);
  // The first lies on top: of a stack the lowest.
  return [...grid, ...bounds, ...drawn.reverse(), ...legend].join('');
}

const DRAWN = { stat: figure, timeseries: lines, 'state-timeline': lanes };

function drawnPanel(each, span) {
  const { panel } = each;
  const { x, y, w, h } = panel.gridPos;
  const size = { w: w * CELL - GAP - 10, h: h * ROW - GAP - 24 };
  const empty = !seriesOf(each.targets).length;
  const inside = empty ? `<text x="${size.w / 2}" y="${size.h / 2}" font-size="20" fill="#d44a3a" text-anchor="middle">No data</text>` : DRAWN[panel.type](each, size, span);
  return `<section style="left:${x * CELL}px;top:${y * ROW}px;width:${w * CELL - GAP}px;height:${h * ROW - GAP}px"><h2>${escaped(panel.title)}</h2><svg width="${size.w}" height="${size.h}">${inside}</svg></section>`;
}

function page({ dashboard, drawn, start, end }) {
  const rows = dashboard.panels.filter((panel) => panel.type === 'row')
    .map((row) => `<h1 style="top:${row.gridPos.y * ROW + 4}px">${escaped(row.title)}</h1>`);
  const height = Math.max(...dashboard.panels.map(({ gridPos: { y, h } }) => y + h)) * ROW + 40;
  return [height, `<!doctype html><meta charset="utf-8"><title>${escaped(dashboard.title)}</title><style>
body{margin:0;background:#f4f5f5;font:12px DejaVu Sans,sans-serif;color:#24292e;width:${24 * CELL + 12}px}
header{font-size:16px;padding:8px}main{position:relative;margin-left:8px}
section{position:absolute;background:#fff;border:1px solid #d8dade;box-sizing:border-box;padding:4px}
h1{position:absolute;font-size:13px;margin:0}h2{font-size:11px;margin:0 0 3px;font-weight:600}</style>
<header>${escaped(dashboard.title)}</header><main>${rows.join('')}${drawn.map((each) => drawnPanel(each, { start, end })).join('')}</main>`];
}

const [file, folder] = process.argv.slice(2);
if (!folder) throw new Error('node sheet.mjs PANELS.JSON FOLDER');
mkdirSync(folder, { recursive: true });
for (const each of JSON.parse(readFileSync(file, 'utf8'))) {
  const [height, html] = page(each);
  const base = resolve(join(folder, `grafana-${each.dashboard.uid.slice(4)}`));
  writeFileSync(`${base}.html`, html);
  if (process.env.OMS_CHROMIUM) {
    execFileSync(process.env.OMS_CHROMIUM, ['--headless', '--no-sandbox', '--disable-gpu', '--hide-scrollbars', `--window-size=${24 * CELL + 16},${height}`, `--screenshot=${base}.png`, `file://${base}.html`], { stdio: 'ignore' });
    rmSync(`${base}.html`);
  }
  console.error(`${base}: ${each.drawn.length} panels`);
}
