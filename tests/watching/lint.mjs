// What every dashboard must be, after the rules of Grafana's own linter (which is not used: it rests on AGPL code),
// and more: that each metric and label is declared in docs/METRICS.md, that each link leads to a section of the
// runbook, and that no declared metric is missing from the dashboards.
import { read } from './promql.mjs';

const TYPES = new Set(['timeseries', 'stat', 'state-timeline']);
const UNITS = new Set(['short', 'none', 'percentunit', 's', 'bytes', 'decbytes', 'reqps', 'cps', 'eps', 'mps', 'currencyUSD']);
const GROWTH = new Set(['rate', 'increase']);
/** Metrics that Prometheus makes, with their labels. */
const PROMETHEUS = { up: ['gauge', []], ALERTS: ['gauge', ['alertname', 'alertstate', 'severity']] };
const PLACE = ['job', 'instance'];

/** Metrics of docs/METRICS.md: name to kind and labels. */
export function declared(page) {
  const metrics = new Map(Object.entries(PROMETHEUS).map(([name, [kind, labels]]) => [name, { kind, labels: new Set(labels) }]));
  for (const line of page.split('\n')) {
    const cells = line.split('|').map((cell) => cell.trim());
    const name = /^`(\w+)`$/.exec(cells[1] ?? '')?.[1];
    if (name) metrics.set(name, { kind: cells[2], labels: new Set([...cells[4].matchAll(/`(\w+)`/g)].map(([, label]) => label)), ours: true });
  }
  return metrics;
}

/** Anchors of a page's headings. */
export function anchors(page) {
  let fenced = false;
  const titles = page.split('\n').filter((line) => {
    if (line.startsWith('```')) fenced = !fenced;
    return !fenced && line.startsWith('#');
  });
  return new Set(titles.map((title) => title.replace(/^#+/, '').trim().toLowerCase()
    .replace(/[^\p{L}\p{N}_ -]/gu, '').replaceAll(' ', '-')));
}

/** Panels of a dashboard, those in rows too, without the rows. */
export function panels(dashboard) {
  return dashboard.panels.flatMap((panel) => (panel.type === 'row' ? panel.panels : [panel]));
}

function metric(name, metrics) {
  if (metrics.has(name)) return { whole: name, ...metrics.get(name) };
  const [, whole, ending] = /^(.*)_(bucket|sum|count)$/.exec(name) ?? [];
  if (!whole || metrics.get(whole)?.kind !== 'histogram') return undefined;
  const { labels } = metrics.get(whole);
  return { whole, kind: 'counter', ours: true, labels: ending === 'bucket' ? new Set([...labels, 'le']) : labels };
}

/** What is wrong with an expression; `instant`: it is asked for one moment. `used` is told the metrics. */
function wrongIn(expression, { metrics, instant, used }) {
  let parts;
  try {
    parts = read(expression);
  } catch (error) {
    return { wrong: [error.message], labels: new Set() };
  }
  const wrong = [];
  const labels = new Set(PLACE);
  for (const { name, matchers, range, around } of parts.selectors) {
    const known = metric(name, metrics);
    if (!known) {
      wrong.push(`${name} is not declared in docs/METRICS.md`);
      continue;
    }
    used?.add(known.whole);
    known.labels.forEach((label) => labels.add(label));
    for (const label of PLACE) {
      const there = matchers.some((m) => m.label === label && m.op === '=~' && [`$${label}`, `$${label}|`].includes(m.value));
      if (!there) wrong.push(`${name} has no matcher ${label}=~"$${label}"`);
    }
    for (const { label } of matchers) {
      if (!PLACE.includes(label) && !known.labels.has(label)) wrong.push(`${name} has no label ${label}`);
    }
    const [nearest] = around;
    if (known.kind === 'histogram') wrong.push(`${name} is a histogram: it has _bucket, _sum and _count`);
    if (known.kind === 'counter' && !(range && GROWTH.has(nearest))) wrong.push(`${name} is a counter: it goes with rate() or increase()`);
    if (known.kind === 'gauge' && GROWTH.has(nearest)) wrong.push(`${name} is a gauge: it has no ${nearest}()`);
    if (range && range !== '$__rate_interval' && !(range === '$__range' && instant)) wrong.push(`${name}[${range}]: the range must be $__rate_interval, or $__range where one figure is asked for`);
  }
  for (const label of parts.grouped) if (!labels.has(label)) wrong.push(`nothing in it has the label ${label}`);
  // With a grouping at the outside only its labels are left.
  return { wrong, labels, grouped: parts.grouped };
}

function lintPanel(panel, context) {
  const wrong = [];
  const say = (what) => wrong.push(what);
  const { defaults = {} } = panel.fieldConfig ?? {};
  if (!TYPES.has(panel.type)) say(`the type ${panel.type} is none of ${[...TYPES].join(', ')}`);
  if (!panel.title) say('has no title');
  for (const part of ['**Good:** ', '**Otherwise:** ']) {
    if (!panel.description?.includes(`\n\n${part}`)) say(`its description has no ${part.trim()}`);
  }
  if (!UNITS.has(defaults.unit)) say(`the unit ${defaults.unit} is none of ${[...UNITS].join(', ')}`);
  if (!defaults.thresholds?.steps?.length) say('has no thresholds');
  const values = defaults.thresholds?.steps?.map((each) => each.value) ?? [];
  if (values[0] !== null || values.slice(1).some((value, i) => value === null || value <= (values[i] ?? -Infinity))) say('its thresholds do not rise from null');
  if (panel.datasource?.uid !== '${datasource}') say('its data source is not ${datasource}');
  if (!panel.targets?.length) say('asks for nothing');
  const letters = panel.targets?.map((target) => target.refId) ?? [];
  if (new Set(letters).size !== letters.length) say('two targets have one refId');
  for (const target of panel.targets ?? []) {
    if (target.datasource?.uid !== '${datasource}') say(`${target.refId}: the data source is not \${datasource}`);
    const { wrong: inside, labels } = wrongIn(target.expr, { ...context, instant: target.instant });
    inside.forEach((what) => say(`${target.refId}: ${what}`));
    const named = [...(target.legendFormat ?? '').matchAll(/{{(\w+)}}/g)].map(([, label]) => label);
    for (const label of named) if (!labels.has(label)) say(`${target.refId}: its legend names ${label}, which nothing in it has`);
    if (panel.type !== 'stat' && !target.legendFormat) say(`${target.refId}: has no legend`);
    if (target.instant && panel.type !== 'stat') say(`${target.refId}: is asked for one moment and drawn over time`);
  }
  for (const { url, title } of panel.links ?? []) {
    const [, anchor] = /^\$\{runbook\}#(.+)$/.exec(url) ?? [];
    if (!title || !context.sections.has(anchor)) say(`a link leads nowhere: ${url}`);
  }
  return wrong;
}

function lintPlaces(dashboard) {
  const wrong = [];
  const ids = dashboard.panels.map((panel) => panel.id);
  if (new Set(ids).size !== ids.length) wrong.push('two panels have one id');
  const taken = new Map();
  for (const { title, gridPos: { x, y, w, h } } of dashboard.panels) {
    if (x < 0 || x + w > 24) wrong.push(`${title} does not fit into 24 columns`);
    for (let row = y; row < y + h; row += 1) {
      for (let column = x; column < x + w; column += 1) {
        const at = `${row} ${column}`;
        if (taken.has(at)) return [...wrong, `${title} lies over ${taken.get(at)}`];
        taken.set(at, title);
      }
    }
  }
  return wrong;
}

function lintVariables(dashboard, context) {
  const wrong = [];
  const list = dashboard.templating?.list ?? [];
  const named = (name) => list.find((variable) => variable.name === name) ?? {};
  if (named('datasource').type !== 'datasource' || named('datasource').query !== 'prometheus') wrong.push('has no variable datasource for Prometheus');
  for (const name of PLACE) {
    const variable = named(name);
    if (variable.type !== 'query') wrong.push(`has no variable ${name}`);
    else {
      if (!variable.label) wrong.push(`the variable ${name} has no label`);
      if (variable.datasource?.uid !== '${datasource}') wrong.push(`the variable ${name} is not of \${datasource}`);
      if (variable.refresh !== 2) wrong.push(`the variable ${name} does not follow the time that is shown`);
      if (variable.multi && variable.allValue !== '.+') wrong.push(`all of the variable ${name} is not .+`);
      const [, inside] = /^label_values\((.+), \w+\)$/.exec(variable.query?.query ?? '') ?? [];
      const base = inside?.replace(/{.*}$/, '');
      if (!context.metrics.has(base)) wrong.push(`the variable ${name} asks for ${inside}, which is not declared`);
    }
  }
  const said = JSON.stringify(dashboard);
  for (const [, name] of said.matchAll(/\$\{?([a-z]\w*)\}?/g)) {
    if (!name.startsWith('__') && !named(name).name) wrong.push(`$${name} is no variable`);
  }
  for (const { name } of list) {
    if (!new RegExp(`\\$\\{?${name}\\b`).test(said)) wrong.push(`the variable ${name} is used nowhere`);
  }
  return wrong;
}

/** What is wrong with a dashboard, a line each. `context`: metrics, sections of the runbook, used. */
export function lint(dashboard, context) {
  const wrong = [...lintPlaces(dashboard), ...lintVariables(dashboard, context)];
  if (!/^oms-[a-z]+$/.test(dashboard.uid)) wrong.push('its uid is not oms-…');
  if (!dashboard.title || !dashboard.description) wrong.push('has no title or no description');
  if (dashboard.editable !== false) wrong.push('can be edited: what is changed there is lost with the next load');
  if (!dashboard.tags?.includes('oms')) wrong.push('has no tag oms: the other dashboards do not link to it');
  if (!dashboard.links?.some((link) => link.type === 'dashboards' && link.tags.includes('oms') && link.includeVars && link.keepTime)) wrong.push('does not link to the other dashboards');
  if ('id' in dashboard) wrong.push('has an id: that is given by the installation');
  for (const { name, datasource, target } of dashboard.annotations?.list ?? []) {
    if (datasource?.uid !== '${datasource}') wrong.push(`marks ${name}: the data source is not \${datasource}`);
    wrongIn(target.expr, context).wrong.forEach((what) => wrong.push(`marks ${name}: ${what}`));
  }
  for (const panel of panels(dashboard)) {
    lintPanel(panel, context).forEach((what) => wrong.push(`panel ${panel.id} "${panel.title}": ${what}`));
  }
  return wrong.map((what) => `${dashboard.uid}: ${what}`);
}

/** The same for all of them, and what none of them shows. */
export function lintAll(dashboards, { page, runbook }) {
  const context = { metrics: declared(page), sections: anchors(runbook), used: new Set() };
  const wrong = dashboards.flatMap((dashboard) => lint(dashboard, context));
  const twice = dashboards.map((d) => d.uid).filter((uid, i, all) => all.indexOf(uid) !== i);
  twice.forEach((uid) => wrong.push(`two dashboards have the uid ${uid}`));
  for (const [name, { ours }] of context.metrics) {
    if (ours && !context.used.has(name)) wrong.push(`${name} is declared and no panel shows it`);
  }
  return wrong;
}
