// What needs somebody, the worst first: what it means, what to press, and the section of the runbook.

import { age, count, duration, number, ranges, store } from './format.js';
import { copies, leaders, underWay } from './road.js';
import { growth, latest, state } from './state.js';
import { href } from './ui.js';

const HALTS = {
  writes: ['Writes are halted', 'Something is halted', 'something-is-halted'],
  hand_off: ['A hand-off does not go on', 'A hand-off does not end', 'a-hand-off-does-not-end'],
  copy: ['Copying to the other store is halted', 'The copy lags', 'the-copy-lags'],
  outbox: ['The log is not taken into the outbox', 'Something is halted', 'something-is-halted'],
  relay: ['Nothing is published to Kafka', 'Kafka is down', 'kafka-is-down'],
  projection: ['The read model is halted: queries answer with old data', 'The read model', 'the-read-model'],
};

const DOWN = {
  s3: ['s3-is-down', 'S3 is down'],
  postgres: ['postgresql-is-down', 'PostgreSQL is down'],
  kafka: ['kafka-is-down', 'Kafka is down'],
};

function consequence(name, leads) {
  if (name === 'kafka') return 'Writes go on; nothing is lost; consumers wait until it is back.';
  if (leads) return 'It leads: writes get 503 until it is back. Reads go on where they can.';
  return name === 's3'
    ? 'It does not lead: writes go on, the copy in S3 falls behind and catches up by itself.'
    : 'It does not lead: writes go on; queries, delivery and the history of switches wait.';
}

/** Items `{level, what, means, press, to, runbook, section}`; `level` is `bad` or `warn`. */
export function attention() {
  const items = [];
  const add = (level, what, means, press, to, runbook, section) => items.push({ level, what, means, press, to, runbook, section });
  const h = state.health;
  if (!h) return items;
  for (const [name, [section, title]] of Object.entries(DOWN)) {
    const d = h.dependencies[name];
    if (d.state !== 'down') continue;
    const leads = leaders().has(name);
    add(leads ? 'bad' : 'warn', `${store(name)} is down for ${duration(age(d.since))}`, consequence(name, leads),
      'Nothing here: bring it back', '', title, section);
  }
  if (h.reason === 'storage_full') {
    add('bad', 'The disk of the data directory is nearly full', 'Commands are refused until there is room; reads go on.',
      'Make room on the disk', '', 'The disk is full', 'the-disk-is-full');
  }
  // What is halted because a store is away is said above.
  const away = new Set(items.map((i) => i.section));
  const halted = new Map();
  for (const halt of h.halted ?? []) halted.set(halt.what, [...(halted.get(halt.what) ?? []), halt]);
  for (const [what, halts] of halted) {
    const [title, runbook, section] = HALTS[what] ?? [`“${what}” is halted`, 'Something is halted', 'something-is-halted'];
    if (away.has(section)) continue;
    const where = halts.map((x) => x.partition).filter((p) => p !== undefined && p !== null);
    const places = where.length ? ` in partition ${ranges(where)}` : '';
    add('bad', `${title}${places} for ${duration(age(halts[0].since))}`, halts[0].reason, 'Read what to do', '', runbook, section);
  }
  if (h.not_ready?.length) {
    add('bad', `Partition ${ranges(h.not_ready)} is not open`, 'Its writes are refused: who leads it is not known, or the log cannot be read.',
      'Look at the dependencies first', href('overview'), 'Something is halted', 'something-is-halted');
  }
  for (const copy of h.copies ?? []) {
    add('bad', 'A copy is not of this log', copy, 'Read what to do before you touch it', '', 'A copy is not of this log', 'a-copy-is-not-of-this-log');
  }
  if (h.actors_down?.length) {
    add('bad', `${count(h.actors_down.length, 'actor')} down: ${h.actors_down.slice(0, 3).join(', ')}`,
      'It failed beyond its limit, or is stuck.', 'Look at its last failure', href('actors'), 'An actor escalated', 'an-actor-escalated');
  }
  const m = state.migration;
  if (m) {
    const edge = underWay()?.edges.find((e) => e.state === 'walking');
    const stuck = edge && age(edge.begun) > 60 ? m.partitions.filter((p) => p.moving) : [];
    if (stuck.length) {
      add('bad', `A hand-off has been under way for ${duration(age(edge.begun))} in partition ${ranges(stuck.map((p) => p.partition))}`,
        'Writes there wait, and time out.', 'Look at the switch; cancel it', href('switch'), 'A hand-off does not end', 'a-hand-off-does-not-end');
    }
    const lacking = m.partitions.filter((p) => p.unmirrored > 1000);
    if (lacking.length) {
      const sum = lacking.reduce((n, p) => n + p.unmirrored, 0);
      add('warn', `The copy in ${copies(lacking)} lacks ${count(sum, 'commit')}`,
        'While it does, the lead cannot be handed over. It catches up by itself, or a backfill is needed.',
        'Look at the backfill', href('jobs'), 'The copy lags', 'the-copy-lags');
    }
    const undone = state.history[0];
    if (undone && ['undone', 'failed'].includes(undone.state) && age(undone.ended) < 86400) {
      add('warn', `The last switch, to ${undone.goal}, was ${undone.state}`, undone.error ?? 'Nothing is lost; what was walked stays walked.',
        'Look at the history', href('switch'), 'A hand-off does not end', 'a-hand-off-does-not-end');
    }
    const automatic = state.history.find((s) => s.automatic && age(s.begun) < 86400);
    if (automatic) {
      add('warn', `The guardrail walked to ${automatic.goal}`, automatic.reason, 'Look at the history', href('switch'), 'The guardrail', 'the-guardrail');
    }
  }
  const dead = latest('dead_letters');
  if (dead > 0) {
    add('warn', `${count(dead, 'dead letter')}`, 'The broker refused them again and again; consumers lack these events.',
      'Read, then requeue or discard', href('delivery'), 'Dead letters', 'dead-letters');
  }
  const oldest = latest('outbox_oldest');
  if (oldest > 60 && h.dependencies.kafka.state !== 'down') {
    add('warn', `Delivery is ${duration(oldest)} behind: ${number(latest('outbox_depth'))} rows wait`, 'Consumers see events late; none is lost.',
      'Look at the outbox', href('delivery'), 'Kafka is down', 'kafka-is-down');
  }
  const lag = latest('projection_lag');
  if (lag > 1000) {
    add('warn', `The read model is ${count(lag, 'commit')} behind`, 'Queries answer with old data; reads by id do not.',
      'Look at the projection', href('projections'), 'The read model', 'the-read-model');
  }
  const parked = latest('projection_parked');
  if (parked > 0) {
    add('warn', `${count(parked, 'event')} could not be taken into the read model`, 'Queries lack them.', 'Look at the projection',
      href('projections'), 'The read model', 'the-read-model');
  }
  const restarts = growth('restarts', 180);
  if (restarts >= 5) {
    add('warn', `${count(restarts, 'restart')} of actors in 15 minutes`, 'Something fails over and over though everything says “running”.',
      'Look at their last failures', href('actors'), 'An actor escalated', 'an-actor-escalated');
  }
  // Again and again: one alone may be a probe that came early.
  const recent = (state.metrics.figures.get('server_errors')?.values ?? []).slice(-6);
  const errors = latest('server_errors');
  if (errors > 0 && recent.filter((v) => v > 0).length >= 3) {
    add('warn', `${number(errors)} requests a second are answered 5xx`, 'Callers are told to come back.', 'Look at the charts', href('metrics'),
      'Requests fail', 'requests-fail');
  }
  return items.sort((a, b) => (a.level === b.level ? 0 : a.level === 'bad' ? -1 : 1));
}
