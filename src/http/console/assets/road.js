// The road between the stores: four stages, which partitions are in which, and a hand-off step by step.

import { html, nothing } from './vendor/lit-html.js';
import { ago, clock, count, duration, number, ranges, store } from './format.js';
import { state } from './state.js';
import { badge, table } from './ui.js';

/** The stages in the order of the road. */
export const STAGES = [
  { kind: 'legacy', mode: 'legacy', lead: 'postgres', name: 'legacy', says: 'PostgreSQL alone', truth: 'PostgreSQL', copy: 'none' },
  { kind: 'dual_write/postgres', mode: 'dual_write', lead: 'postgres', name: 'dual_write', says: 'PostgreSQL leads, S3 copies', truth: 'PostgreSQL', copy: 'S3' },
  { kind: 'dual_write/s3', mode: 'dual_write', lead: 's3', name: 'dual_write', says: 'S3 leads, PostgreSQL copies', truth: 'S3', copy: 'PostgreSQL' },
  { kind: 's3_only', mode: 's3_only', lead: 's3', name: 's3_only', says: 'S3 alone', truth: 'S3', copy: 'none' },
];

export const stage = (kind) => STAGES.find((s) => s.kind === kind);
const place = (kind) => STAGES.findIndex((s) => s.kind === kind);
const EDGES = ['a: copying begins', 'b: the lead moves', 'c: copying ends'];

const STEPS = {
  draining_to_s3: 'PostgreSQL takes no more writes; S3 is given what it lacks',
  sealing_to_s3: 'S3 lacks nothing; the record that makes it lead is being written',
  sealing_to_postgres: 'S3 is being closed; PostgreSQL is given what it lacks',
  undoing_to_s3: 'the hand-off is being undone: S3 leads again',
};

function groupBy(list, key) {
  const groups = new Map();
  for (const item of list) groups.set(key(item), [...(groups.get(key(item)) ?? []), item]);
  return groups;
}

/** The switch under way, whichever process walks it. */
export function underWay() {
  const own = state.migration?.switch;
  return own && !own.ended ? own : state.history.find((s) => s.state === 'walking' && s.id !== own?.id) ?? null;
}

const chips = (partitions) => (partitions.length > 24
  ? html`<span class="chip">${count(partitions.length, 'partition')}</span>`
  : partitions.map((p) => html`<span class="chip ${p.moving ? 'moving' : ''}" title=${`partition ${p.partition}, epoch ${p.epoch}`}>${p.partition}</span>`));

/** The picture. */
export function road(steps = true) {
  const m = state.migration;
  if (!m) return nothing;
  const walk = underWay();
  return html`<ol class="road" aria-label="The road between the stores">${STAGES.map((s, i) => {
    const here = m.partitions.filter((p) => p.stage === s.kind);
    const goal = walk?.goal === s.kind;
    return html`<li class="stage ${s.lead} ${here.length ? 'here' : ''} ${goal ? 'goal' : ''}" aria-current=${here.length ? 'step' : nothing} data-stage=${s.kind}>
      <div class="stage-name">${s.name}${here.length ? html` <span class="you">${here.length === m.partitions.length ? 'you are here' : `${here.length} of ${m.partitions.length}`}</span>` : nothing}${
        goal ? html` <span class="you goal">walking here</span>` : nothing}</div>
      <div>${s.says}</div>
      <div class="chips">${here.length ? html`<span class="muted">partitions</span> ${chips(here)}` : html`<span class="muted">no partition</span>`}</div>
      ${i < 3 ? html`<span class="edge" aria-hidden="true">${EDGES[i]}</span>` : nothing}
    </li>`;
  })}</ol>${walk ? walking(walk, m) : steps ? next(m) : nothing}`;
}

/** The neighbours on the road, each with the page that asks its gates. */
function next(m) {
  const at = place(m.stage);
  if (at < 0) return nothing;
  const forward = STAGES[at + 1];
  const back = STAGES[at - 1];
  return html`<p class="row">${forward ? html`<a class="button" href=${`#/switch/${forward.kind}`}>Forward to ${forward.kind}: ask the gates</a>` : nothing}${
    back ? html`<a class="button" href=${`#/switch/${back.kind}`}>Back to ${back.kind}: ask the gates</a>` : nothing}</p>`;
}

/** A switch under way: each edge, each partition's step, the pause. */
export function walking(s, m) {
  const moving = m.partitions.filter((p) => p.moving);
  const steps = groupBy(moving, (p) => p.step);
  return html`<div class="note accent" role="status"><strong>Walking to ${s.goal}</strong> since ${duration((Date.now() - Date.parse(s.begun)) / 1e3)}, ordered by ${s.by}: ${s.reason}
    <ul class="plain">${s.edges.map((e) => html`<li>${badge(e.state, e.state === 'done' ? 'good' : e.state === 'walking' ? 'accent' : 'bad')} ${e.from} → ${e.to}${pause(e)}</li>`)}
    ${[...steps].map(([step, list]) => html`<li>${badge('writes wait', 'warn')} partition ${ranges(list.map((p) => p.partition))}: ${STEPS[step] ?? step}</li>`)}
    </ul></div>`;
}

/** For how long writes waited at an edge. */
export function pause(edge) {
  const pauses = Object.values(edge.pause_ms ?? {});
  return pauses.length ? html`, writes waited ${duration(Math.max(...pauses) / 1e3)} at most` : nothing;
}

/** The stores that lead something. */
export const leaders = () => new Set(state.migration ? state.migration.partitions.map((p) => p.lead) : [state.health?.lead]);

/** Who leads, in a sentence. */
export function whoLeads() {
  const m = state.migration;
  const h = state.health;
  if (!m) return h ? `${store(h.lead)} leads (${h.migration_mode}, epoch ${h.epoch})` : 'unknown';
  const by = groupBy(m.partitions, (p) => p.lead ?? null);
  const [only] = by.keys();
  if (by.size === 1) return only ? `${store(only)} leads every partition` : 'who leads is not known';
  return [...by].map(([lead, list]) => (lead ? `${store(lead)} leads ${list.length} of ${m.partitions.length}` : `who leads ${list.length} is not known`)).join(', ');
}

/** The store that holds the copy of these partitions; where they differ, whichever it is. */
export function copies(dual) {
  const [lead, ...more] = new Set(dual.map((p) => p.lead));
  return more.length ? 'the other store' : store(lead === 's3' ? 'postgres' : 's3');
}

/** What the copy lacks, in a sentence; empty without a copy. */
export function behind() {
  const m = state.migration;
  if (!m) return '';
  const dual = m.partitions.filter((p) => p.stage?.startsWith('dual_write'));
  if (m.partitions.some((p) => !p.stage)) return 'what the copy lacks is not known in every partition';
  if (!dual.length) return 'no copy is kept';
  const unknown = dual.filter((p) => p.unmirrored === undefined);
  const lacks = dual.reduce((n, p) => n + (p.unmirrored ?? 0), 0);
  const copy = copies(dual);
  if (unknown.length) return `what ${copy} lacks is not known yet in ${count(unknown.length, 'partition')}`;
  return lacks ? `${copy} lacks ${count(lacks, 'commit')}` : `${copy} lacks nothing`;
}

const FEW = 12;
let all = false;

/** Each partition; those that differ from the rest first when there are many. */
export function partitions(changed) {
  const m = state.migration;
  if (!m) return nothing;
  const odd = (p) => (p.moving ? 2 : 0) + (p.unmirrored > 0 ? 1 : 0) + (p.stage !== m.stage ? 1 : 0);
  const sorted = [...m.partitions].sort((a, b) => odd(b) - odd(a) || place(a.stage) - place(b.stage) || a.partition - b.partition);
  const shown = all ? sorted : sorted.slice(0, FEW);
  return html`${table('Partitions', [{ text: '#', num: true }, 'stage', 'leads', { text: 'epoch', num: true }, 'since', { text: 'commits', num: true }, { text: 'copy lacks', num: true }, 'hand-off'],
    shown.map((p) => html`<tr><td class="num">${p.partition}</td><td>${p.stage ?? 'unknown'}</td>
      <td>${badge(store(p.lead), p.lead)}</td><td class="num">${p.epoch}</td><td title=${clock(p.since)}>${ago(p.since)}</td>
      <td class="num">${number(p.next_offset)}</td><td class="num">${p.stage?.startsWith('dual_write') ? number(p.unmirrored) : html`<span class="muted">no copy</span>`}</td>
      <td>${p.moving ? badge('writes wait', 'warn') : nothing} ${p.step && p.step !== 'steady' ? STEPS[p.step] ?? p.step : p.moving ? nothing : html`<span class="muted">none</span>`}</td></tr>`))}
    ${sorted.length > FEW ? html`<button type="button" class="small" @click=${() => { all = !all; changed(); }}>${all ? 'Fewer' : `All ${sorted.length}`}</button>` : nothing}`;
}
