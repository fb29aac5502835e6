// The words in which the dashboards are written: queries, panels, rows, dashboards.

const DATASOURCE = { type: 'prometheus', uid: '${datasource}' };
const WIDTH = 24;

// Queries. Every selector has the matchers of the two variables at the top of each dashboard.

/** The series of a metric: `of('oms_lead', 'store="s3"')`. */
export const of = (metric, labels = '') => `${metric}{job=~"$job", instance=~"$instance"${labels && `, ${labels}`}}`;
/** Growth of a counter, a second. */
export const per = (metric, labels) => `rate(${of(metric, labels)}[$__rate_interval])`;
/** Growth of a counter since the point before. */
export const step = (metric, labels) => `increase(${of(metric, labels)}[$__rate_interval])`;
/** Growth of a counter within the time that is shown; for panels that show one figure. */
export const grown = (metric, labels) => `increase(${of(metric, labels)}[$__range])`;
export const sum = (what, ...by) => `sum ${by.length ? `by (${by.join(', ')}) ` : ''}(${what})`;
export const max = (what, ...by) => `max ${by.length ? `by (${by.join(', ')}) ` : ''}(${what})`;
export const min = (what, ...by) => `min ${by.length ? `by (${by.join(', ')}) ` : ''}(${what})`;
/** A quantile of a histogram. */
export const quantile = (q, metric, labels, ...by) => `histogram_quantile(${q}, ${sum(per(`${metric}_bucket`, labels), 'le', ...by)})`;
/** The mean of a histogram. */
export const mean = (metric, labels) => `${sum(per(`${metric}_sum`, labels))} / ${sum(per(`${metric}_count`, labels))}`;

// Panels.

/**
 * What a panel says of itself. `what`: the figures; `good`: what they look like when all is well; `act`: what to do
 * otherwise; `runbook`: the section that says more.
 */
function said({ what, good, act }) {
  return `${what}\n\n**Good:** ${good}\n\n**Otherwise:** ${act}`;
}

/** A link to a page outside of Grafana. */
export const outward = (title, url, icon, tooltip = '') => ({
  title, url, icon, tooltip, type: 'link', tags: [], asDropdown: false, includeVars: false, keepTime: false, targetBlank: true,
});

function link(runbook) {
  if (!runbook) return [];
  return [outward(`Runbook: ${runbook.replaceAll('-', ' ')}`, `\${runbook}#${runbook}`, 'doc')];
}

/** Bounds from which something is yellow, and red: `[0.5, 1]`; one alone is red. `below`: it is bad below them. */
function thresholds(bounds, below) {
  if (!bounds) return { mode: 'absolute', steps: [{ color: below === undefined ? 'text' : 'green', value: null }] };
  const colours = bounds.length === 1 ? ['green', 'red'] : ['green', 'yellow', 'red'];
  if (below) colours.reverse();
  const steps = [null, ...bounds].map((value, i) => ({ color: colours[i], value }));
  return { mode: 'absolute', steps };
}

function targets(queries, extra) {
  return queries.map(([expr, legendFormat = ''], i) => ({
    datasource: DATASOURCE, refId: String.fromCharCode(65 + i), expr, legendFormat, ...extra,
  }));
}

function panel(type, title, options) {
  const { queries, unit, decimals, bounds, below, custom = {}, width, height, runbook, mappings = [], noValue, instant, from } = options;
  return {
    type,
    title,
    description: said(options),
    datasource: DATASOURCE,
    links: link(runbook),
    fieldConfig: {
      defaults: {
        unit,
        ...(decimals === undefined ? {} : { decimals }),
        ...(noValue === undefined ? {} : { noValue }),
        ...(from === undefined ? {} : { min: from }),
        color: { mode: type === 'timeseries' ? 'palette-classic' : 'thresholds' },
        thresholds: thresholds(bounds, below),
        mappings,
        custom,
      },
      overrides: [],
    },
    gridPos: { h: height, w: width, x: 0, y: 0 },
    targets: targets(queries, instant ? { instant: true, range: false } : { range: true }),
  };
}

/** Lines over time. */
export function lines(title, options) {
  const custom = {
    drawStyle: 'line',
    lineInterpolation: 'linear',
    lineWidth: 1,
    fillOpacity: options.stacked ? 25 : 8,
    showPoints: 'never',
    spanNulls: false,
    stacking: { mode: options.stacked ? 'normal' : 'none', group: 'A' },
    thresholdsStyle: { mode: options.bounds ? 'dashed' : 'off' },
  };
  return {
    ...panel('timeseries', title, { width: 8, height: 8, from: 0, custom, ...options }),
    options: {
      legend: { displayMode: 'list', placement: 'bottom', showLegend: true, calcs: [] },
      tooltip: { mode: 'multi', sort: 'desc', hideZeros: true },
    },
  };
}

/** One figure, the last one. `grown()` goes with `instant`; with `named` it is what the series is called. */
export function figure(title, options) {
  return {
    ...panel('stat', title, { width: 3, height: 4, ...options }),
    options: {
      colorMode: options.bounds || options.mappings ? 'background' : 'value',
      graphMode: options.instant ? 'none' : 'area',
      justifyMode: 'auto',
      orientation: 'auto',
      percentChangeColorMode: 'standard',
      reduceOptions: { calcs: ['lastNotNull'], fields: '', values: false },
      showPercentChange: false,
      textMode: options.named ? 'name' : 'auto',
      wideLayout: true,
    },
  };
}

/** States over time, a lane each. */
export function lanes(title, options) {
  return {
    ...panel('state-timeline', title, { width: 12, height: 8, custom: { fillOpacity: 70, lineWidth: 0 }, ...options }),
    options: {
      alignValue: 'left',
      legend: { displayMode: 'list', placement: 'bottom', showLegend: false, calcs: [] },
      mergeValues: true,
      rowHeight: 0.9,
      showValue: 'auto',
      tooltip: { mode: 'single', sort: 'none' },
    },
  };
}

/** Words and colours for values: `{ 0: ['legacy', 'blue'] }`. */
export function worded(words) {
  const options = {};
  Object.entries(words).forEach(([value, [text, color]], index) => { options[value] = { text, color, index }; });
  return [{ type: 'value', options }];
}

/** A row: a headline and the panels below it. */
export const row = (title, ...panels) => ({ title, panels });

// Dashboards.

function placed(rows) {
  const all = [];
  let y = 0;
  let id = 0;
  for (const { title, panels } of rows) {
    id += 1;
    all.push({ id, type: 'row', title, collapsed: false, gridPos: { h: 1, w: WIDTH, x: 0, y }, panels: [] });
    y += 1;
    let [x, high] = [0, 0];
    for (const each of panels) {
      const { w, h } = each.gridPos;
      if (x + w > WIDTH) [x, y, high] = [0, y + high, 0];
      id += 1;
      all.push({ id, ...each, gridPos: { h, w, x, y } });
      [x, high] = [x + w, Math.max(high, h)];
    }
    y += high;
  }
  return all;
}

function asked(name, label, query, several) {
  return {
    name,
    label,
    type: 'query',
    datasource: DATASOURCE,
    query: { query, refId: 'StandardVariableQuery' },
    refresh: 2,
    sort: 1,
    ...(several ? { multi: true, includeAll: true, allValue: '.+', current: { text: ['All'], value: ['$__all'] } } : { multi: false, includeAll: false }),
  };
}

/** A figure that whoever looks may change for their own eyes, at the top of the dashboard. */
export const typed = (name, label, value) => ({
  name, label, type: 'textbox', query: String(value), current: { text: String(value), value: String(value) },
});

function variables(alone, more) {
  return [
    { name: 'datasource', label: 'Data source', type: 'datasource', query: 'prometheus', refresh: 1 },
    asked('job', 'Job', 'label_values(oms_build_info, job)', true),
    asked('instance', 'Instance', 'label_values(oms_build_info{job=~"$job"}, instance)', !alone),
    ...more,
    // One place for where the runbook is read: see docs/OPERATIONS.md.
    { name: 'runbook', type: 'constant', hide: 2, skipUrlSync: true, query: 'https://docs.oms.example/RUNBOOK.html' },
  ];
}

function marks() {
  const mark = (name, iconColor, expr, titleFormat) => ({ name, iconColor, enable: true, hide: false, datasource: DATASOURCE,
    target: { refId: 'Anno', expr, titleFormat, step: '10s' } });
  return { list: [
    mark('Starts', 'purple', 'changes(process_start_time_seconds{job=~"$job", instance=~"$instance"}[$__rate_interval]) > 0', '{{instance}} was started'),
    mark('Hand-offs', 'blue', 'sum by (store, outcome) (increase(oms_handoffs_total{job=~"$job", instance=~"$instance"}[$__rate_interval])) > 0', 'lead to {{store}}: {{outcome}}'),
  ] };
}

/** A dashboard. `alone`: it shows one instance at a time. */
export function dashboard({ uid, title, description, alone = false, more = [], links = [], rows }) {
  return {
    uid,
    title: `oms / ${title}`,
    description,
    tags: ['oms'],
    schemaVersion: 42,
    version: 1,
    editable: false,
    graphTooltip: 1,
    timezone: 'browser',
    refresh: '30s',
    time: { from: 'now-1h', to: 'now' },
    links: [
      { title: 'Dashboards', type: 'dashboards', tags: ['oms'], asDropdown: true, includeVars: true, keepTime: true, icon: 'external link', targetBlank: false, tooltip: 'The other dashboards, for the same job and instance' },
      outward('Runbook', '${runbook}', 'doc', 'What to do'),
      ...links,
    ],
    annotations: marks(),
    templating: { list: variables(alone, more) },
    panels: placed(rows),
  };
}
