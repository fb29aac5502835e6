// What the bucket costs: PUTs an event, and dollars for a million events.
import { prices } from './prices.mjs';
import { dashboard, figure, grown, lines, max, mean, of, per, quantile, row, sum, typed } from './words.mjs';

// What is priced as a PUT, and what as a GET; DELETE costs nothing.
const PUTS = 'dependency="s3", operation=~"put|put_if_absent|list"';
const COMMITS = 'dependency="s3", operation="put_if_absent"';
const GETS = 'dependency="s3", operation=~"get|get_range"';
const MONTH = 30 * 24 * 3600;

const calls = (grow, labels) => sum(grow('oms_dependency_started_total', labels));
const succeeded = sum(per('oms_dependency_succeeded_total', 'dependency="s3"'));
const failed = sum(per('oms_dependency_failed_total', 'dependency="s3"'));
const dollars = (grow) => `(${calls(grow, PUTS)} * $put_price + ${calls(grow, GETS)} * $get_price) / 1000`;
const events = (grow) => sum(grow('event_store_writes_total'));
// What a process has read of the log is the whole of it: not to be added up over processes.
const stored = max(of('event_store_storage_bytes'), 'bucket');

export default dashboard({
  uid: 'oms-economy',
  title: 'S3 economy',
  description: 'What the bucket costs. Prices are at the top: those of AWS S3 Standard, us-east-1, unless changed. Storage is what the log holds; traffic is not counted.',
  more: [
    typed('put_price', '$ for 1000 PUT, LIST', prices.put),
    typed('get_price', '$ for 1000 GET', prices.get),
    typed('storage_price', '$ for a GB and month', prices.storage),
  ],
  rows: [
    row(
      'In the time that is shown',
      figure('$ a million events', {
        what: 'Requests to S3 at the prices above, for a million events that were written. Storage is not in it.',
        good: 'with batches far below the price of a million PUTs ($5): 10 events an object make $0.5.',
        act: 'a lone writer makes an object an event. Write in batches or with more writers at once; `log.linger` lets a commit wait for company.',
        queries: [[`1e6 * (${dollars(grown)}) / ${events(grown)}`]],
        unit: 'currencyUSD',
        decimals: 2,
        bounds: [5, 10],
        instant: true,
        width: 4,
      }),
      figure('PUTs an event', {
        what: 'Conditional puts to S3 for an event: those of the log, copies and lost races included.',
        good: 'well below 1; 1 with a lone writer.',
        act: 'above 1 puts are lost: see the races below.',
        queries: [[`${calls(grown, COMMITS)} / ${events(grown)}`]],
        unit: 'short',
        decimals: 3,
        bounds: [1.05, 1.5],
        instant: true,
        width: 4,
      }),
      figure('Events an object', {
        what: 'Mean number of events in a commit object.',
        good: 'grows with the load.',
        act: 'see "$ a million events".',
        queries: [[`${events(grown)} / ${sum(grown('oms_commits_total'))}`]],
        unit: 'short',
        decimals: 1,
        instant: true,
        width: 4,
      }),
      figure('Requests, $ a month', {
        what: 'What the requests would cost in a month if it went on as now.',
        good: 'what was planned.',
        act: 'at rest it is what reading on costs (LIST, GET): `log.tail_interval` of processes that do not write.',
        queries: [[`${MONTH} * (${dollars(per)})`]],
        unit: 'currencyUSD',
        decimals: 2,
        width: 4,
      }),
      figure('Storage, $ a month', {
        what: 'What the log of now costs to keep for a month.',
        good: 'what was planned. The log only grows.',
        act: 'nothing compacts it; old objects may go to a cheaper class that answers at once.',
        queries: [[`${sum(stored)} / 1e9 * $storage_price`]],
        unit: 'currencyUSD',
        decimals: 2,
        width: 4,
      }),
      figure('Bytes an event', {
        what: 'Bytes of commit objects for an event.',
        good: 'about the size of the data and 400 bytes of envelope.',
        act: 'large events are the callers\'.',
        queries: [[`${sum(grown('oms_commit_batch_bytes_sum'))} / ${sum(grown('oms_commit_batch_events_sum'))}`]],
        unit: 'decbytes',
        decimals: 0,
        instant: true,
        width: 4,
      }),
    ),
    row(
      'Over time',
      lines('$ a million events', {
        what: 'Requests to S3 at the prices above, for a million events, while something is written.',
        good: 'lowest under load.',
        act: 'at low load it is high and costs little: the product is what is paid.',
        queries: [[`1e6 * (${dollars(per)}) / (${events(per)} > 0)`, '$']],
        unit: 'currencyUSD',
      }),
      lines('PUTs an event', {
        what: 'Conditional puts for an event, while something is written.',
        good: 'falls as the load grows.',
        act: 'rises with lone writers, and with races between processes.',
        queries: [[`${calls(per, COMMITS)} / (${events(per)} > 0)`, 'PUTs']],
        unit: 'short',
      }),
      lines('Requests to S3', {
        what: 'Requests begun a second, by operation. Repetitions within the client are not seen here, and are paid.',
        good: 'puts follow the writes, gets the reads that the cache does not have.',
        act: 'many `list` without writes: processes that tail; `get` with repeated reads: `log.cache_bytes`.',
        queries: [[sum(per('oms_dependency_started_total', 'dependency="s3"'), 'operation'), '{{operation}}']],
        unit: 'reqps',
        stacked: true,
      }),
      lines('Events an object', {
        what: 'How many events share a commit object.',
        good: 'grows with the load, up to `log.batch_events`.',
        act: 'always 1 under load: writers wait for each other, see the actors.',
        queries: [
          [mean('oms_commit_batch_events'), 'mean'],
          [quantile(0.99, 'oms_commit_batch_events'), '99 % at most'],
        ],
        unit: 'short',
      }),
      lines('Bytes an object', {
        what: 'Size of commit objects.',
        good: 'up to `log.batch_bytes`.',
        act: 'small objects cost most, for a byte.',
        queries: [
          [mean('oms_commit_batch_bytes'), 'mean'],
          [quantile(0.99, 'oms_commit_batch_bytes'), '99 % at most'],
        ],
        unit: 'decbytes',
      }),
      lines('Stored', {
        what: 'Bytes of commit objects in the bucket, as far as the processes have read the log.',
        good: 'grows with the writes and never shrinks.',
        act: 'plan for it: nothing compacts the log.',
        queries: [[stored, '{{bucket}}']],
        unit: 'decbytes',
      }),
      lines('Objects', {
        what: 'Objects of the log by partition (the next offset).',
        good: 'grows evenly over the partitions.',
        act: 'one that grows alone has a stream that is written most.',
        queries: [[max(of('oms_log_next_offset'), 'partition'), 'partition {{partition}}']],
        unit: 'short',
      }),
      lines('Puts without an event', {
        what: 'Conditional puts a second that another writer won, and puts of unknown outcome that were settled by reading back.',
        good: '0 with one writing process; a few with several.',
        act: 'many races: let fewer processes write the same partitions. Unknown outcomes: S3 is slow or the network breaks.',
        runbook: 's3-is-down',
        queries: [
          [sum(per('oms_conditional_put_conflicts_total')), 'races lost'],
          [sum(per('oms_indeterminate_settled_total'), 'outcome'), 'unknown, then {{outcome}}'],
        ],
        unit: 'cps',
      }),
      lines('Time of a request to S3', {
        what: 'Within which 99 % of the requests end, by operation.',
        good: 'puts to AWS take tens of milliseconds.',
        act: 'a write lasts as long as its put.',
        runbook: 'writes-are-slow',
        queries: [[quantile(0.99, 'oms_dependency_seconds', 'dependency="s3"', 'operation'), '{{operation}}']],
        unit: 's',
      }),
      lines('Requests that succeed', {
        what: 'Share of the requests to S3 that succeeded, of those that ended. A refused condition is an answer and counts as success.',
        good: '100 %; a gate of the migration asks for 99.9 %.',
        act: 'see the failures by kind.',
        runbook: 's3-is-down',
        queries: [[`${succeeded} / (${succeeded} + ${failed})`, 'succeed']],
        unit: 'percentunit',
        from: undefined,
      }),
      lines('Requests that fail', {
        what: 'Requests a second that failed, by kind.',
        good: '0.',
        act: 'unavailable, timeout: S3 or the way there. denied: rights. throttled: fewer or larger objects.',
        runbook: 's3-is-down',
        queries: [[sum(per('oms_dependency_failed_total', 'dependency="s3"'), 'kind'), '{{kind}}']],
        unit: 'reqps',
        bounds: [0.1],
      }),
      lines('Events a stream', {
        what: 'Mean number of events in a stream, of those this process has written to.',
        good: 'short streams are read with one request.',
        act: 'long ones are read from snapshots: `actors.snapshot_every`.',
        queries: [[max(of('event_store_events_per_aggregate'), 'aggregate_type'), '{{aggregate_type}}']],
        unit: 'short',
      }),
    ),
  ],
});
