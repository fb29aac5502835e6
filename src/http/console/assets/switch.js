// Where to go next, what the gates say, and the order itself: a dry run first, then a reason and the name of the goal.

import { html, nothing } from './vendor/lit-html.js';
import { post, url } from './api.js';
import { ago, clock, exact, ranges, shell, store } from './format.js';
import { STAGES, partitions, pause, road, stage, underWay } from './road.js';
import { changed, historyNow, may, missing, state } from './state.js';
import { ask, badge, button, copyable, failure, table } from './ui.js';

export const title = 'Switch';

const form = { goal: '', share: 'all', percent: 50, list: '' };
let plan = null;
let problem = null;
let busy = false;

export function enter(parts) {
  if (parts[0]) form.goal = parts.join('/');
}

function order() {
  const to = stage(form.goal);
  const list = form.list.split(/[\s,]+/).filter(Boolean).map(Number);
  return {
    mode: to.mode,
    ...(to.mode === 'dual_write' ? { lead: to.lead } : {}),
    ...(form.share === 'percent' ? { percent: Number(form.percent) } : {}),
    ...(form.share === 'list' ? { partitions: list } : {}),
  };
}

/** The same order as a command. */
function command(ordered, reason, force) {
  return ['oms', 'mode', ordered.mode,
    ...(ordered.lead ? ['--lead', ordered.lead] : []),
    ...(ordered.percent ? ['--percent', String(ordered.percent)] : []),
    ...(ordered.partitions ? ['--partitions', ordered.partitions.join(',')] : []),
    '--reason', shell(reason || 'WHY'),
    ...(force ? ['--force'] : [])].join(' ');
}

async function dryRun() {
  busy = true;
  problem = plan = null;
  changed();
  // What was planned is what will be ordered, whatever is chosen meanwhile.
  const [ordered, goal] = [order(), form.goal];
  try {
    const answer = await post('/api/v1/admin/migration/mode', { ...ordered, reason: 'dry run in the console', dry_run: true });
    plan = { ...answer, goal, order: ordered, at: Date.now() };
    state.migration = answer.migration;
  } catch (error) {
    problem = error;
  }
  busy = false;
  changed();
}

const threshold = (t) => {
  const [[kind, value]] = Object.entries(t ?? {}).length ? Object.entries(t) : [['', null]];
  return `${kind.replace('_', ' ')} ${exact(value)}`;
};
const figure = (f) => (f === null || f === undefined ? html`<em>not measured</em>` : exact(f));
const KINDS = { pass: 'good', fail: 'bad', skipped: 'warn' };

function gates(edges) {
  const rows = edges.flatMap((e) => e.gates.map((g, i) => html`<tr class=${g.state === 'fail' ? 'bad' : ''}>
    <td>${i ? '' : html`${e.from} → ${e.to}`}</td><td>${badge(g.state, KINDS[g.state])}</td><td><code>${g.name}</code><br>${g.asks}</td>
    <td class="num">${figure(g.figure)}</td><td>${threshold(g.threshold)}</td>
    <td>${g.kind}${g.state === 'fail' ? html`<br><span class="muted">${g.kind === 'data' ? 'cannot be forced' : 'can be forced'}</span>` : nothing}</td></tr>`));
  return table('Gates', ['edge', 'gate', 'asks', { text: 'is', num: true }, 'must be', 'kind'], rows, 'these edges have no gates');
}

const GATE_HELP = [
  [/^backfill/, 'Run a backfill', '#/jobs'],
  [/^(verification|divergent)/, 'Run a verification', '#/jobs'],
  [/^unmirrored|^mirror_behind/, 'Wait for the copy, or run a backfill', '#/jobs'],
  [/^relay_lag/, 'Look at delivery', '#/delivery'],
  [/^s3_led_for/, 'Wait: S3 must have led for so long', '#/overview'],
];

function hints(failing) {
  const found = GATE_HELP.filter(([name]) => failing.some((g) => name.test(g.name)));
  return found.length ? html`<p>What opens them: ${found.map(([, text, to], i) => html`${i ? ', ' : ''}<a href=${to}>${text}</a>`)}.</p>` : nothing;
}

function consequences(edges) {
  const lines = edges.map((e) => ({
    'a forward': 'New writes are copied to S3 from now on. The commit point stays in PostgreSQL.',
    'b forward': 'The lead moves to S3. Writes of each partition wait meanwhile; those that wait longer than their deadline are answered 503.',
    'c forward': 'PostgreSQL is written no more: without S3 nothing can be written.',
    'a backward': 'S3 is written no more. PostgreSQL alone holds what is written from now on.',
    'b backward': 'The lead moves back to PostgreSQL. Writes of each partition wait meanwhile; those that wait longer than their deadline are answered 503.',
    'c backward': 'PostgreSQL is given what it lacks, and then copies what is written.',
  })[`${e.edge} ${e.direction}`]).filter(Boolean);
  return html`<ul>${lines.map((l) => html`<li>${l}</li>`)}</ul>`;
}

function order_dialog() {
  const planned = plan;
  const failing = planned.edges.flatMap((e) => e.gates.filter((g) => g.state === 'fail'));
  const forceable = failing.filter((g) => g.kind === 'confidence');
  const from = state.migration?.stage;
  ask({
    title: `Switch to ${planned.goal}`,
    reason: true,
    typed: planned.goal,
    kind: planned.may_begin ? 'primary' : 'danger',
    label: 'Switch',
    body: (f) => html`${consequences(planned.edges)}<p>The way back: switch to <code>${from}</code> in the same way.</p>
      <p>The same as a command:</p>${copyable(command(planned.order, f.reason, f.force))}`,
    extra: (f) => (forceable.length ? html`<label class="check"><input type="checkbox" .checked=${!!f.force} @change=${(e) => { f.force = e.target.checked; changed(); }}>
      Force: skip ${forceable.map((g, i) => html`${i ? ', ' : ''}<code>${g.name}</code>`)}. Gates of data are never skipped; the history says so.</label>` : nothing),
    act: async (f) => {
      const answer = await post('/api/v1/admin/migration/mode', { ...planned.order, reason: f.reason, ...(f.force ? { force: true } : {}) });
      state.migration = answer.migration;
      plan = null;
      historyNow();
    },
  });
}

function planView() {
  if (!plan) return nothing;
  if (plan.goal !== form.goal) return nothing;
  const failing = plan.edges.flatMap((e) => e.gates.filter((g) => g.state === 'fail'));
  const data = failing.filter((g) => g.kind === 'data');
  const off = data.length ? 'gates of data do not hold' : '';
  if (!plan.edges.length) return html`<p class="note good">It is so already: nothing would be done.</p>`;
  return html`<h3>What the gates say <span class="muted">${ago(plan.at)}</span></h3>${gates(plan.edges)}
    <div class="note ${plan.may_begin ? 'good' : 'warn'}">${plan.may_begin
    ? html`<strong>It may begin.</strong> ${failing.length ? 'Gates of later edges do not hold yet: the walk would end before them.' : ''}`
    : html`<strong>It may not begin:</strong> ${failing.map((g) => g.name).join(', ')}.`}${hints(failing)}</div>
    <p class="row">${button('Switch…', 'admin', order_dialog, { kind: plan.may_begin ? 'primary' : 'danger', off: plan.may_begin ? '' : off })}</p>`;
}

function choose() {
  const here = state.migration?.stage;
  const pick = (kind) => () => { form.goal = kind; plan = problem = null; changed(); };
  const set = (name) => (e) => { form[name] = e.target.value; plan = null; changed(); };
  const many = (state.migration?.partitions.length ?? 0) > 1;
  return html`<fieldset class="goals"><legend>Where to</legend>${STAGES.map((s) => html`<label class="goal ${form.goal === s.kind ? 'picked' : ''}">
      <input type="radio" name="goal" value=${s.kind} .checked=${form.goal === s.kind} @change=${pick(s.kind)}>
      <strong>${s.kind}</strong>${s.kind === here ? html` <span class="you">now</span>` : nothing}<br><span>${s.says}</span></label>`)}</fieldset>
    ${many ? html`<div class="row"><label>Which partitions <select @change=${set('share')}><option value="all" ?selected=${form.share === 'all'}>all</option>
      <option value="percent" ?selected=${form.share === 'percent'}>a share</option><option value="list" ?selected=${form.share === 'list'}>these</option></select></label>
      ${form.share === 'percent' ? html`<label>Per cent <input type="number" min="1" max="100" .value=${String(form.percent)} @input=${set('percent')}></label>` : nothing}
      ${form.share === 'list' ? html`<label>Partitions <input type="text" placeholder="0, 3" .value=${form.list} @input=${set('list')}></label>` : nothing}</div>` : nothing}
    <p class="row">${button(busy ? 'Asking the gates…' : 'Dry run: ask the gates', 'admin', dryRun, { kind: 'primary', off: form.goal ? '' : 'choose where to' })}</p>`;
}

async function cancel(s) {
  ask({
    title: `Cancel the switch to ${s.goal}`,
    body: html`<p>It ends at its next gate. A step that has begun is walked to its end; edges that were walked stay walked. Nothing is lost.</p>`,
    label: 'Cancel the switch',
    kind: 'danger',
    act: async () => { await post(url`/api/v1/admin/migration/switches/${s.id}`, undefined, 'DELETE'); historyNow(); },
  });
}

const ENDS = { done: 'good', walking: 'accent', refused: 'warn', undone: 'warn', failed: 'bad' };

function historyView() {
  const rows = state.history.map((s) => html`<tr><td title=${clock(s.begun)}>${clock(s.begun)}<br><span class="muted">${ago(s.begun)}</span></td>
    <td><code>${s.goal}</code><br><span class="muted">partition ${ranges(s.partitions)}</span></td><td>${badge(s.state, ENDS[s.state])}${s.force ? badge('forced', 'warn') : nothing}${s.automatic ? badge('guardrail', 'warn') : nothing}</td>
    <td>${s.by}</td><td>${s.reason}</td><td>${s.edges.map((e) => html`<div>${e.from} → ${e.to}: ${e.state}${pause(e)}${
      e.gates.some((g) => g.state === 'skipped') ? html`, skipped ${e.gates.filter((g) => g.state === 'skipped').map((g) => g.name).join(', ')}` : nothing}</div>`)}${s.error ? html`<div class="bad">${s.error}</div>` : nothing}</td></tr>`);
  return html`<section aria-labelledby="history"><h2 id="history">History</h2>${table('History of switches', ['begun', 'to', 'outcome', 'by', 'reason', 'edges'], rows, state.historyProblem ? `not known: ${state.historyProblem.message}` : 'no switch was ever ordered')}</section>`;
}

export function view() {
  if (!may('admin')) return html`<p class="note">${missing('admin') || 'Asking…'}. Who leads: ${store(state.health?.lead)}, ${state.health?.migration_mode ?? ''}.</p>${button('Dry run: ask the gates', 'admin', () => {})} ${button('Switch…', 'admin', () => {})}`;
  const s = underWay();
  return html`<section aria-labelledby="now"><h2 id="now">Now</h2>${road(false)}
      ${s ? html`<p class="row">${button('Cancel this switch…', 'admin', () => cancel(s), { kind: 'danger' })}</p>` : nothing}${partitions(changed)}</section>
    <section aria-labelledby="next"><h2 id="next">Next</h2>${choose()}${failure(problem)}${planView()}</section>
    ${historyView()}`;
}
