// The supervision tree.

import { html, nothing } from './vendor/lit-html.js';
import { get, post } from './api.js';
import { ago, clock, duration, number } from './format.js';
import { changed, may, missing, poll, state } from './state.js';
import { ask, badge, button, failure, href, table } from './ui.js';

export const title = 'Actors';

let root = null;
let problem = null;
let stop = null;
let filter = '';
let trouble = false;

async function look() {
  if (!may('admin')) return;
  try {
    root = (await get('/api/v1/admin/actors')).root;
    problem = null;
  } catch (error) {
    problem = error;
  }
}

export function enter() {
  stop = poll(4000, look);
}

export function leave() {
  stop?.();
}

const KILLS = ['panic', 'stop', 'hang', 'abort', 'arbiter'];

function kill(actor) {
  ask({
    title: `Kill ${actor.path}`,
    label: 'Kill',
    kind: 'danger',
    typed: actor.name,
    body: html`<p>It is started again from the store. No acknowledged write is lost. <code>arbiter</code> ends the thread, and with it every actor that lives there. For game days: <a href=${href('runbook', 'game-day')}>Runbook: Game day</a></p>`,
    extra: (f) => html`<label>How <select @change=${(e) => { f.how = e.target.value; }}>${KILLS.map((k) => html`<option>${k}</option>`)}</select></label>`,
    act: async (f) => { await post('/api/v1/admin/actors/kill', { path: actor.path, how: f.how ?? 'panic' }); stop?.now(); },
  });
}

const COLOURS = { running: 'good', backoff: 'warn', stopped: 'warn', escalated: 'bad', stuck: 'bad' };
const troubled = (a) => a.state !== 'running' || a.restarts > 0 || a.rebuilds > 0 || a.last_failure;

function flat(actor, depth, out) {
  const fits = (!filter || actor.path.includes(filter)) && (!trouble || troubled(actor));
  const at = out.length;
  for (const child of actor.children) flat(child, depth + 1, out);
  if (actor.children_omitted) out.push({ omitted: actor.children_omitted, depth: depth + 1 });
  if (actor.path !== 'root' && (fits || (out.length > at && !trouble && !filter))) out.splice(at, 0, { actor, depth });
  return out;
}

function row({ actor: a, depth, omitted }) {
  if (omitted) return html`<tr><td class="d${Math.min(depth, 5)} muted" colspan="7">and ${number(omitted)} more</td></tr>`;
  const f = a.last_failure;
  return html`<tr class=${a.state === 'running' ? '' : 'bad'}><td class="d${Math.min(depth, 5)}">${a.name}<br><span class="muted">${a.kind}</span></td>
    <td>${badge(a.stuck ? `${a.state}: ${a.stuck}` : a.state, COLOURS[a.state])}</td><td class="num">${number(a.restarts)}${a.rebuilds ? ` + ${a.rebuilds}` : ''}</td>
    <td class="num">${a.calls_in_flight}</td><td class="num">${duration(a.mailbox_wait_ms / 1e3)}</td>
    <td>${f ? html`<b>${f.cause}</b> <span title=${clock(f.at)}>${ago(f.at)}</span><br>${f.message}` : html`<span class="muted">never failed</span>`}</td>
    <td>${state.about?.chaos && !a.children.length ? button('Kill…', 'admin', () => kill(a), { kind: 'danger small', quiet: true }) : nothing}</td></tr>`;
}

export function view() {
  if (!may('admin')) return html`<p class="note">${missing('admin')}</p>`;
  if (!root) return failure(problem) || html`<p>Asking…</p>`;
  const rows = flat(root, -1, []);
  return html`${failure(problem)}<p class="row"><label>Path <input type="search" .value=${filter} @input=${(e) => { filter = e.target.value; changed(); }}></label>
      <label class="check"><input type="checkbox" .checked=${trouble} @change=${(e) => { trouble = e.target.checked; changed(); }}> only those that failed</label></p>
    ${table('Actors', ['actor', 'state', { text: 'restarts', num: true }, { text: 'calls', num: true }, { text: 'mailbox', num: true }, 'last failure', 'act'], rows.slice(0, 600).map(row), 'no actor is like that')}
    ${rows.length > 600 ? html`<p class="muted">${number(rows.length - 600)} more: narrow it down.</p>` : nothing}
    <p class="muted">Restarts + times it was built anew with another mailbox. ${state.about?.chaos ? '' : 'Killing needs chaos.enabled in the configuration.'}</p>`;
}
