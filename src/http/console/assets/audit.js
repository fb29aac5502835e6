// Who ordered what, and who was turned away.

import { html, nothing } from './vendor/lit-html.js';
import { get, query } from './api.js';
import { ago, clock } from './format.js';
import { changed, may, missing, poll } from './state.js';
import { badge, failure, table } from './ui.js';

export const title = 'Audit';

const PAGE = 50;
const filter = { principal: '', kind: '' };
let page = null;
let problem = null;
let pages = [];
let stop = null;

async function look() {
  if (!may('admin')) return;
  try {
    page = await get(query('/api/v1/admin/audit', { limit: PAGE, cursor: pages.at(-1), ...filter }));
    problem = null;
  } catch (error) {
    problem = error;
  }
  changed();
}

export function enter() {
  pages = [];
  stop = poll(10000, look);
}

export function leave() {
  stop?.();
}

const set = (name) => (e) => { filter[name] = e.target.value.trim(); pages = []; stop.now(); };
const COLOURS = { done: 'good', refused: 'warn', failed: 'bad' };

export function view() {
  if (!may('admin')) return html`<p class="note">${missing('admin')}</p>`;
  return html`<p class="row"><label>Kind <select @change=${set('kind')}><option value="">all</option><option value="command">orders</option><option value="refusal">refusals</option></select></label>
      <label>Who <input type="search" .value=${filter.principal} @change=${set('principal')}></label></p>
    ${failure(problem)}
    ${page ? table('Audit trail', ['when', 'who', 'what', 'outcome', 'the order'], page.items.map((e) => html`<tr><td title=${clock(e.time)}>${clock(e.time)}<br><span class="muted">${ago(e.time)}</span></td>
      <td>${e.principal ?? html`<em>nobody known</em>`}<br><span class="muted">${e.address ?? ''}</span></td><td><code>${e.action}</code>${e.times > 1 ? html` × ${e.times}` : nothing}</td>
      <td>${badge(e.outcome, COLOURS[e.outcome])} ${e.status}${e.code ? html`<br><code>${e.code}</code>` : nothing}</td><td class="body">${e.body ?? ''}</td></tr>`), 'there is nothing') : html`<p>Asking…</p>`}
    <p class="row">${pages.length ? html`<button type="button" @click=${() => { pages.pop(); stop.now(); }}>Newer</button>` : nothing}
      ${page?.next_cursor ? html`<button type="button" @click=${() => { pages.push(page.next_cursor); stop.now(); }}>Older</button>` : nothing}</p>`;
}
