// Pieces that pages share. Text of anybody's data goes into templates as text, never as markup.

import { html, nothing } from './vendor/lit-html.js';
import { changed, missing, state } from './state.js';

/** The address of a page of the console; every part is encoded. */
export const href = (...parts) => `#/${parts.map((p) => encodeURIComponent(p)).join('/')}`;

/** A button that says why it cannot be pressed. */
export function button(label, role, press, { kind = '', off = '', quiet = false } = {}) {
  const why = (role && missing(role)) || off;
  return html`<button type="button" class=${kind} ?disabled=${!!why} title=${why || nothing} @click=${press}>${label}</button>${
    why && !quiet ? html`<span class="why">${why}</span>` : nothing}`;
}

/** What went wrong, for a person. */
export function failure(error) {
  if (!error) return nothing;
  const head = { 0: 'Not reached', 401: 'Not signed in', 403: 'Not allowed', 404: 'Not there' }[error.status] ?? 'Refused';
  return html`<p class="note bad" role="alert"><strong>${error.status >= 500 ? 'Failed' : head}:</strong> ${error.message}${
    error.code ? html` <code>${error.code}</code>` : nothing}${
    (error.body?.violations ?? []).map((v) => html`<br><code>${v.field}</code> ${v.message}`)}</p>`;
}

/** A command to take elsewhere. */
export function copyable(text, label = 'Copy') {
  const copy = async (event) => {
    const pressed = event.currentTarget;
    const code = pressed.parentElement.querySelector('code');
    try {
      await navigator.clipboard.writeText(text);
      pressed.textContent = 'Copied';
    } catch {
      getSelection().selectAllChildren(code);
      pressed.textContent = 'Selected: press Ctrl+C';
    }
    setTimeout(() => { pressed.textContent = label; }, 2000);
  };
  return html`<div class="copy"><pre tabindex="0"><code>${text}</code></pre><button type="button" class="small" @click=${copy}>${label}</button></div>`;
}

/** A table; on a narrow screen it scrolls on its own. `columns`: texts, or `{text, num}`. */
export function table(caption, columns, rows, empty = 'nothing') {
  const cols = columns.map((c) => (typeof c === 'string' ? { text: c } : c));
  return html`<div class="scroll" tabindex="0" role="region" aria-label=${caption}><table>
    <caption class="hidden">${caption}</caption>
    <thead><tr>${cols.map((c) => html`<th scope="col" class=${c.num ? 'num' : ''}>${c.text}</th>`)}</tr></thead>
    <tbody>${rows.length ? rows : html`<tr><td class="empty" colspan=${cols.length}>${empty}</td></tr>`}</tbody>
  </table></div>`;
}

/** A word with a colour, which never says more than the word. */
export const badge = (text, kind = '') => html`<span class="badge ${kind}">${text}</span>`;

/** How much of something is done. */
export function progress(done, total, label) {
  return total > 0
    ? html`<progress max=${total} value=${Math.min(done, total)} aria-label=${label}></progress>`
    : html`<progress aria-label=${label}></progress>`;
}

let asking = null;

/** What is asked for in a dialog, rendered by the shell. */
export function dialogView() {
  return asking ? asking.view() : nothing;
}

/** Whether a dialog is open. */
export const dialogOpen = () => !!asking;

/** Closes it. What was sent cannot be called back: while that is under way, only what is still to come is stopped. */
export function closeDialog() {
  if (asking?.busy) asking.stopped = true;
  else asking = null;
  changed();
}

/**
 * Asks before something is done. `typed`: what must be typed; `reason`: whether one must be given; `body`: what will
 * happen; `extra(form)`: more to choose, kept in `form`; `act(form, stopped)`: does it; `many`: one order after the other, and
 * looks at `stopped()` between them. Stays open, with the problem, when that fails.
 */
export function ask({ title, body, typed, reason, extra, label, kind = 'primary', many = false, act }) {
  const form = { reason: '', typed: '' };
  const dialog = { problem: null, busy: false, stopped: false };
  const ready = () => (!typed || form.typed.trim() === typed) && (!reason || form.reason.trim()) && !dialog.busy && !state.lost;
  const go = async (event) => {
    event.preventDefault();
    if (!ready()) return;
    Object.assign(dialog, { busy: true, stopped: false });
    dialog.problem = null;
    changed();
    try {
      await act(form, () => dialog.stopped);
      if (asking === dialog) asking = null;
    } catch (error) {
      dialog.problem = error;
    }
    dialog.busy = false;
    changed();
  };
  const set = (name) => (event) => { form[name] = event.target.value; changed(); };
  dialog.view = () => html`<form @submit=${go}>
    <h2 id="dialog-title">${title}</h2>
    ${typeof body === 'function' ? body(form) : body}
    ${extra ? extra(form) : nothing}
    ${reason ? html`<label>Reason, kept in the history <input type="text" maxlength="500" required autocomplete="off"
      .value=${form.reason} @input=${set('reason')}></label>` : nothing}
    ${typed ? html`<label>Type <code>${typed}</code> to confirm <input type="text" required autocomplete="off" spellcheck="false"
      autocapitalize="off" .value=${form.typed} @input=${set('typed')}></label>` : nothing}
    ${failure(dialog.problem)}
    <div class="row end"><button type="button" ?disabled=${dialog.busy && !many} @click=${closeDialog}>${!dialog.busy ? 'Do nothing' : dialog.stopped ? 'Stopping…' : 'Stop'}</button>
    <button type="submit" class=${kind} ?disabled=${!ready()}>${dialog.busy ? 'Working…' : label}</button></div>
  </form>`;
  asking = dialog;
  changed();
}
