// The dashboards are as `lint.mjs` says, and it is not blind: each mistake that is planted is found.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { old } from '../../deploy/grafana/build.mjs';
import { dashboards, text } from './dashboards.mjs';
import { anchors, declared, lint, lintAll, panels } from './lint.mjs';
import { read } from './promql.mjs';

const page = text('docs', 'METRICS.md');
const runbook = text('deploy', 'RUNBOOK.md');
const context = { metrics: declared(page), sections: anchors(runbook), used: new Set() };

test('the files are what the sources make', async () => {
  assert.deepEqual(await old(), [], 'run node deploy/grafana/build.mjs');
});

test('nothing is wrong with any dashboard, and every declared metric is shown', () => {
  assert.ok(context.metrics.size > 80 && context.sections.size > 30, 'metrics and sections are found');
  assert.equal(dashboards.length, 6);
  assert.deepEqual(lintAll(dashboards, { page, runbook }), []);
});

test('a metric that no panel shows is told', () => {
  const more = page.replace('| `oms_lead` |', '| `oms_new_total` | counter | count |  | New |\n| `oms_lead` |');
  assert.deepEqual(lintAll(dashboards, { page: more, runbook }), ['oms_new_total is declared and no panel shows it']);
});

test('every rule has a line that says what made it fire', () => {
  const rules = [...text('deploy', 'alerts.yml').matchAll(/- alert: (\w+)/g)].map(([, name]) => name);
  const lines = text('docs', 'ALERTS.md').split('\n').map((line) => /^\| (Oms\w+) \| .* \| (?:yes|no: .+) \|$/.exec(line)?.[1]).filter(Boolean);
  assert.ok(rules.length > 30);
  assert.deepEqual(lines, rules, 'run deploy/dev watching pictures');
});

test('expressions are read', () => {
  const { selectors, grouped } = read('histogram_quantile(0.9, sum by (le, store) (rate(a_bucket{b="c)", d=~"$d"}[$__rate_interval]))) / on (job) group_left (log) max(e) > 1e6');
  assert.deepEqual(selectors, [
    { name: 'a_bucket', range: '$__rate_interval', around: ['rate', 'sum', 'histogram_quantile'],
      matchers: [{ label: 'b', op: '=', value: 'c)' }, { label: 'd', op: '=~', value: '$d' }] },
    { name: 'e', range: undefined, around: ['max'], matchers: [] },
  ]);
  assert.deepEqual([...grouped], ['le', 'store', 'job', 'log']);
  assert.throws(() => read('sum(a'), /bracket/);
  assert.throws(() => read('sum(a) ? b'), /cannot be read/);
});

const M = 'job=~"$job", instance=~"$instance"';
const first = (d) => panels(d)[0];
const asks = (expr) => (d) => { first(d).targets[0].expr = expr; };

// What is planted, and what must be said of it.
const MISTAKES = [
  [(d) => { delete first(d).title; }, 'has no title'],
  [(d) => { first(d).description = 'A figure.'; }, 'has no **Good:**'],
  [(d) => { delete first(d).fieldConfig.defaults.unit; }, 'the unit undefined'],
  [(d) => { first(d).fieldConfig.defaults.thresholds.steps = []; }, 'has no thresholds'],
  [(d) => { first(d).fieldConfig.defaults.thresholds.steps[1].value = null; }, 'do not rise'],
  [(d) => { first(d).type = 'graph'; }, 'the type graph'],
  [(d) => { first(d).datasource.uid = 'prometheus'; }, 'its data source'],
  [(d) => { first(d).targets[0].datasource.uid = 'prometheus'; }, 'A: the data source'],
  [(d) => { first(d).targets = []; }, 'asks for nothing'],
  [(d) => { first(d).targets.push(first(d).targets[0]); }, 'one refId'],
  [(d) => { first(d).links = [{ title: 'x', url: '${runbook}#nowhere' }]; }, 'a link leads nowhere'],
  [(d) => { first(d).targets[0].legendFormat = '{{colour}}'; }, 'its legend names colour'],
  [(d) => { panels(d).find((p) => p.type === 'timeseries').targets[0].legendFormat = ''; }, 'has no legend'],
  [asks(`sum(oms_commits_totals{${M}})`), 'oms_commits_totals is not declared'],
  [asks(`sum(oms_commits_total{${M}})`), 'is a counter'],
  [asks(`sum(rate(oms_lead{${M}}[$__rate_interval]))`), 'is a gauge'],
  [asks(`sum(rate(oms_relay_lag_seconds{${M}}[$__rate_interval]))`), 'is a histogram'],
  [asks(`sum(rate(oms_commits_total{${M}}[5m]))`), 'the range must be'],
  [asks(`sum(rate(oms_commits_total{${M}}[$__range]))`), 'the range must be'],
  [asks('sum(oms_lead{instance=~"$instance"})'), 'no matcher job'],
  [asks('sum(oms_lead{job=~"$job"})'), 'no matcher instance'],
  [asks('sum(oms_lead{job="$job", instance=~"$instance"})'), 'no matcher job'],
  [asks(`sum(oms_lead{${M}, colour="red"})`), 'oms_lead has no label colour'],
  [asks(`sum by (colour) (oms_lead{${M}})`), 'has the label colour'],
  [asks(`sum(oms_lead{${M}}`), 'a bracket is open'],
  [asks(`sum(oms_lead{${M}}) * $prise`), '$prise is no variable'],
  [(d) => { d.panels[1].id = d.panels[2].id; }, 'two panels have one id'],
  [(d) => { d.panels[1].gridPos.x = 23; }, 'does not fit'],
  [(d) => { d.panels[1].gridPos = d.panels[2].gridPos; }, 'lies over'],
  [(d) => { d.editable = true; }, 'can be edited'],
  [(d) => { d.uid = 'x'; }, 'its uid'],
  [(d) => { d.id = 1; }, 'has an id'],
  [(d) => { d.tags = []; }, 'has no tag'],
  [(d) => { d.links = []; }, 'does not link'],
  [(d) => { d.annotations.list[0].target.expr = 'oms_lead'; }, 'marks Starts: oms_lead has no matcher'],
  [(d) => { d.templating.list = d.templating.list.filter((v) => v.name !== 'job'); }, 'has no variable job'],
  [(d) => { d.templating.list.find((v) => v.name === 'instance').refresh = 1; }, 'does not follow the time'],
  [(d) => { d.templating.list.find((v) => v.name === 'instance').allValue = '.*'; }, 'is not .+'],
  [(d) => { d.templating.list.find((v) => v.name === 'job').query.query = 'label_values(oms_gone, job)'; }, 'asks for oms_gone'],
  [(d) => { d.templating.list.push({ name: 'spare' }); }, 'spare is used nowhere'],
];

for (const [plant, told] of MISTAKES) {
  test(`a mistake is found: ${told}`, () => {
    const dashboard = structuredClone(dashboards.find((d) => d.uid === 'oms-overview'));
    plant(dashboard);
    const wrong = lint(dashboard, context);
    assert.ok(wrong.some((what) => what.includes(told)), `not told, but: ${JSON.stringify(wrong)}`);
  });
}
