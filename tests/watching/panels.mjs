// Every target of every panel, and every mark, asked of a real Prometheus as Grafana would ask.
import { panels } from './lint.mjs';

/** Points that a panel is drawn with. */
const POINTS = 240;

/** As Grafana writes a value of a variable into an expression. */
const escaped = (value) => value.replace(/[.*+?()|[\]{}^$\\]/g, '\\\\$&');

/** Values of the variables of a dashboard; `instance`: the one to look at, else all. */
async function chosen(dashboard, prometheus, { instance, job }) {
  const values = { datasource: 'prometheus' };
  for (const { name, type, query, multi, allValue } of dashboard.templating.list) {
    if (type === 'textbox' || type === 'constant') values[name] = query;
    if (type !== 'query') continue;
    const [, inside, label] = /^label_values\((.+), (\w+)\)$/.exec(query.query);
    const there = await prometheus.ask(`label/${label}/values`, { 'match[]': filled(inside, values) });
    const wanted = { instance, job }[name];
    if (wanted && !there.includes(wanted)) throw new Error(`${dashboard.uid}: the variable ${name} does not offer ${wanted}, but ${there}`);
    if (!there.length) throw new Error(`${dashboard.uid}: the variable ${name} offers nothing`);
    values[name] = wanted ? escaped(wanted) : multi ? allValue : escaped(there[0]);
  }
  return values;
}

function filled(expr, values) {
  return expr.replace(/\$\{(\w+)\}|\$(\w+)/g, (whole, braced, bare) => {
    const value = values[braced ?? bare];
    if (value === undefined) throw new Error(`nobody knows ${whole} in ${expr}`);
    return value;
  });
}

const finite = (series) => series.filter(({ values }) => values.some(([, value]) => Number.isFinite(Number(value))));

/**
 * Asks for everything of a dashboard between two moments. Gives, a panel each: the panel, its targets with their series,
 * and what was wrong: an expression that is refused, a metric that does not exist, no points.
 */
export async function asked(dashboard, prometheus, { start, end, instance, job, names }) {
  const step = Math.max(1, Math.ceil((end - start) / POINTS));
  const span = Math.ceil(end - start);
  const values = {
    ...await chosen(dashboard, prometheus, { instance, job }),
    // Grafana's own reckoning, with a scrape a second.
    __rate_interval: `${Math.max(step + 1, 4)}s`,
    __range: `${span}s`,
  };
  const ask = async (expr, instant) => {
    const query = filled(expr, values);
    if (!instant) return (await prometheus.ask('query_range', { query, start, end, step })).result;
    const { result } = await prometheus.ask('query', { query, time: end });
    return result.map(({ metric, value }) => ({ metric, values: [value] }));
  };
  const wrongWith = async (expr, instant) => {
    const unknown = [...new Set(expr.match(/\b(?:oms|event_store|process)_\w+\b/g))].filter((name) => !names.has(name) && !name.startsWith('process_name'));
    if (unknown.length) return { wrong: `no such metric: ${unknown.join(', ')}`, series: [] };
    try {
      const series = finite(await ask(expr, instant));
      return { wrong: series.length ? undefined : `no data: ${filled(expr, values)}`, series };
    } catch (error) {
      return { wrong: `${error.message}: ${filled(expr, values)}`, series: [] };
    }
  };
  const drawn = [];
  for (const panel of panels(dashboard)) {
    const targets = [];
    for (const { refId, expr, legendFormat, instant } of panel.targets) {
      targets.push({ refId, legendFormat, ...await wrongWith(expr, instant) });
    }
    drawn.push({ panel, targets });
  }
  const marks = [];
  for (const { name, target } of dashboard.annotations.list) marks.push({ name, ...await wrongWith(target.expr, false) });
  const wrong = [
    ...drawn.flatMap(({ panel, targets }) => targets.filter((t) => t.wrong).map((t) => `${dashboard.uid} "${panel.title}" ${t.refId}: ${t.wrong}`)),
    ...marks.filter((mark) => mark.wrong).map((mark) => `${dashboard.uid} marks ${mark.name}: ${mark.wrong}`),
  ];
  return { drawn, marks, wrong, start, end };
}
