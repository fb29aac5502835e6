// The last hour of this process, from its own memory.

import { html } from './vendor/lit-html.js';
import { chart, range } from './charts.js';
import { clock, count } from './format.js';
import { changed, may, missing, state } from './state.js';

export const title = 'Metrics';

const CHARTS = [
  ['Events written and read a second', 'per_second', ['writes', 'reads'], ['written', 'reads']],
  ['Commits a second', 'per_second', ['commits'], ['commits']],
  ['Time of a write', 'seconds', ['write_p50', 'write_p99'], ['half within', '99 % within']],
  ['HTTP requests a second', 'per_second', ['requests', 'server_errors', 'rejects'], ['requests', '5xx', 'turned away']],
  ['Time of an HTTP request, 99 % within', 'seconds', ['request_p99'], ['request']],
  ['Calls to dependencies, 99 % within', 'seconds', ['s3_p99', 'postgres_p99', 'kafka_p99'], ['S3', 'PostgreSQL', 'Kafka']],
  ['Failed calls to dependencies a second', 'per_second', ['s3_failures', 'postgres_failures', 'kafka_failures'], ['S3', 'PostgreSQL', 'Kafka']],
  ['Published to Kafka a second', 'per_second', ['published', 'publish_failures'], ['published', 'failed']],
  ['From an event to the broker, 99 % within', 'seconds', ['relay_p99', 'outbox_oldest'], ['published', 'oldest waiting']],
  ['Behind', 'count', ['outbox_depth', 'projection_lag', 'unmirrored'], ['outbox rows', 'read model', 'copy']],
  ['Left aside', 'count', ['dead_letters', 'projection_parked'], ['dead letters', 'parked']],
  ['Aggregates in memory', 'count', ['live_aggregates'], ['aggregates']],
  ['Wait in a mailbox, 99 % within', 'seconds', ['mailbox_p99'], ['wait']],
  ['Actors', 'count', ['restarts', 'escalations'], ['restarts', 'escalations']],
];
const RANGES = [[300, '5 min'], [900, '15 min'], [3600, '1 h']];

export function view() {
  if (!may('admin')) return html`<p class="note">${missing('admin')}</p>`;
  const { times } = state.metrics;
  return html`<p>From the memory of this process (node ${state.about?.node ?? ''}): ${count(times.length, 'sample')}, one every ${state.metrics.every ?? 5} s${times.length ? `, since ${clock(times[0])}` : ''}. Dashed lines: switches. For longer times and for all processes there is <a href="/metrics">/metrics</a>.</p>
    <div class="row" role="group" aria-label="Time shown">${RANGES.map(([s, label]) => html`<button type="button" class="small" aria-pressed=${range.seconds === s} @click=${() => { range.seconds = s; changed(); }}>${label}</button>`)}</div>
    <div class="charts">${CHARTS.map((c) => chart(...c))}</div>`;
}
