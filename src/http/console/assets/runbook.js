// The runbook that this program was built with. Its text becomes templates, never markup of its own.

import { html, nothing } from './vendor/lit-html.js';
import { Problem } from './api.js';
import { changed } from './state.js';
import { failure, href } from './ui.js';

export const title = 'Runbook';

let blocks = null;
let section = '';
let problem = null;

/** As GitHub names headings. */
const slug = (text) => text.toLowerCase().replace(/[^\p{L}\p{N} _-]/gu, '').replaceAll(' ', '-');
const SPAN = /`([^`]+)`|\*\*([^*]+)\*\*|\*([^*]+)\*|\[([^\]]*)\]\(([^)\s]+)\)/g;

function inline(text) {
  const out = [];
  let from = 0;
  for (const m of text.matchAll(SPAN)) {
    out.push(text.slice(from, m.index));
    from = m.index + m[0].length;
    if (m[1] !== undefined) out.push(html`<code>${m[1]}</code>`);
    else if (m[2] !== undefined) out.push(html`<strong>${inline(m[2])}</strong>`);
    else if (m[3] !== undefined) out.push(html`<em>${inline(m[3])}</em>`);
    else out.push(m[5].startsWith('#') ? html`<a href=${href('runbook', m[5].slice(1))}>${inline(m[4])}</a>` : html`${inline(m[4])} <span class="muted">(${m[5]})</span>`);
  }
  out.push(text.slice(from));
  return out;
}

const cells = (line) => line.trim().replace(/^\||\|$/g, '').split(/(?<!\\)\|/).map((c) => c.trim());

function parse(text) {
  const out = [];
  const lines = text.split('\n');
  let parts = 0;
  let tables = 0;
  for (let i = 0; i < lines.length;) {
    const line = lines[i];
    const head = /^(#{1,4}) (.*)/.exec(line);
    const fence = /^```/.test(line);
    if (!line.trim()) i += 1;
    else if (fence) {
      const code = [];
      for (i += 1; i < lines.length && !/^```/.test(lines[i]); i += 1) code.push(lines[i]);
      i += 1;
      out.push({ code: code.join('\n') });
    } else if (head) {
      parts += head[1].length === 1 ? 1 : 0;
      // Sections before the first part stand as high as parts do.
      out.push({ level: head[1].length, rank: head[1].length === 1 || parts < 2 ? 2 : 3, text: head[2], id: slug(head[2]) });
      i += 1;
    } else if (line.startsWith('|')) {
      const rows = [];
      for (; lines[i]?.startsWith('|'); i += 1) rows.push(cells(lines[i]));
      tables += 1;
      out.push({ rows: [rows[0], ...rows.slice(2)], name: `Table ${tables}: ${rows[0].join(', ')}` });
    } else if (/^(\*|-|\d+\.) /.test(line)) {
      const items = [];
      for (; i < lines.length && lines[i].trim() && (/^(\*|-|\d+\.) /.test(lines[i]) || /^\s/.test(lines[i])); i += 1) {
        if (/^(\*|-|\d+\.) /.test(lines[i])) items.push(lines[i].replace(/^(\*|-|\d+\.) /, ''));
        else items.push(`${items.pop()} ${lines[i].trim()}`);
      }
      out.push({ items, ordered: /^\d/.test(line) });
    } else {
      const words = [];
      for (; i < lines.length && lines[i].trim() && !/^(#|```|\||\* |- |\d+\. )/.test(lines[i]); i += 1) words.push(lines[i].trim());
      out.push({ words: words.join(' ') });
      if (!words.length) i += 1;
    }
  }
  return out;
}

function block(b) {
  if (b.code !== undefined) return html`<pre tabindex="0"><code>${b.code}</code></pre>`;
  if (b.rows) return html`<div class="scroll" tabindex="0" role="region" aria-label=${b.name}><table><thead><tr>${b.rows[0].map((c) => html`<th scope="col">${inline(c)}</th>`)}</tr></thead><tbody>${b.rows.slice(1).map((r) => html`<tr>${r.map((c) => html`<td>${inline(c)}</td>`)}</tr>`)}</tbody></table></div>`;
  if (b.items) return b.ordered ? html`<ol>${b.items.map((t) => html`<li>${inline(t)}</li>`)}</ol>` : html`<ul>${b.items.map((t) => html`<li>${inline(t)}</li>`)}</ul>`;
  if (b.rank === 2) return html`<h2 id=${`rb-${b.id}`} tabindex="-1">${inline(b.text)}</h2>`;
  if (b.level) return html`<h3 id=${`rb-${b.id}`} tabindex="-1" class=${b.id === section ? 'picked' : ''}>${inline(b.text)}</h3>`;
  return html`<p>${inline(b.words)}</p>`;
}

async function load() {
  const answer = await fetch('runbook.md');
  if (!answer.ok) throw new Problem(answer.status, null);
  blocks = parse(await answer.text());
  changed();
}

// At once, so that it is at hand when the service is not.
const loaded = load().catch(() => {});

export async function enter(parts) {
  section = parts[0] ?? '';
  problem = null;
  await loaded;
  if (!blocks) await load().catch((error) => { problem = error; });
  changed();
  requestAnimationFrame(() => requestAnimationFrame(() => {
    const heading = section && document.getElementById(`rb-${section}`);
    if (heading) { heading.scrollIntoView(); heading.focus({ preventScroll: true }); }
  }));
}

export function view() {
  if (!blocks) return failure(problem) || html`<p>Asking…</p>`;
  return html`<nav class="toc" aria-label="Sections">${blocks.filter((b) => b.level === 2).map((b) => html`<a href=${href('runbook', b.id)} aria-current=${b.id === section ? 'location' : nothing}>${b.text.replaceAll('`', '')}</a>`)}</nav>
    <article class="prose">${blocks.slice(1).map(block)}</article>`;
}
