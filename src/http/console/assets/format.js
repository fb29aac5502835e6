// Figures, times and names as people read them.

const digits = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

/** 12,345; 1.2; 0.03. Null: a dash. */
export function number(n) {
  if (n === null || n === undefined || Number.isNaN(n)) return '–';
  if (typeof n !== 'number') return String(n);
  const size = Math.abs(n);
  if (Number.isInteger(n) || size >= 20) return digits.format(n);
  return size >= 1 ? n.toFixed(1) : size === 0 ? '0' : n.toPrecision(2);
}

/** A number as it was given, to four digits: for figures that are compared. */
export const exact = (n) => (typeof n === 'number' ? String(Number(n.toPrecision(4))) : String(n));

/** Seconds as 3 ms, 1.2 s, 4 min, 3 h 20 min, 5 d. */
export function duration(s) {
  if (s === null || s === undefined || Number.isNaN(s)) return '–';
  if (s < 0.0995) return `${number(s * 1e3)} ms`;
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 90) return `${Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h ${Math.round((s % 3600) / 60)} min`;
  return `${Math.round(s / 86400)} d`;
}

/** Bytes as 1.2 MB. */
export function bytes(n) {
  if (n === null || n === undefined) return '–';
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let i = 0;
  for (; n >= 1000 && i < units.length - 1; i += 1) n /= 1000;
  return `${i && n < 10 ? n.toFixed(1) : Math.round(n)} ${units[i]}`;
}

/** Seconds since a time. */
export const age = (time) => (Date.now() - new Date(time).getTime()) / 1e3;

/** "4 min ago". */
export const ago = (time) => (time ? `${duration(Math.max(0, age(time)))} ago` : '–');

/** The time of day, with the date when it is not today's; UTC, as in logs and histories. */
export function clock(time, fraction = false) {
  if (!time) return '–';
  const iso = new Date(time).toISOString();
  const of = fraction ? iso.slice(11, 23) : iso.slice(11, 19);
  return iso.slice(0, 10) === new Date().toISOString().slice(0, 10) ? `${of} UTC` : `${iso.slice(0, 10)} ${of} UTC`;
}

/** "1 partition", "3 partitions". */
export const count = (n, one, many = `${one}s`) => `${number(n)} ${n === 1 ? one : many}`;

/** A store as people call it. */
export const store = (lead) => ({ s3: 'S3', postgres: 'PostgreSQL', kafka: 'Kafka' })[lead] ?? lead ?? 'unknown';

/** 0, 1, 2, 5 as "0–2, 5". */
export function ranges(numbers) {
  const sorted = [...numbers].sort((a, b) => a - b);
  const parts = [];
  for (let i = 0; i < sorted.length; i += 1) {
    const first = sorted[i];
    while (sorted[i + 1] === sorted[i] + 1) i += 1;
    parts.push(first === sorted[i] ? `${first}` : `${first}–${sorted[i]}`);
  }
  return parts.join(', ');
}

/** A word for a shell, quoted so that nothing in it is taken for more than text. */
export const shell = (text) => (/^[\w./:=@%+,-]+$/.test(text) ? text : `'${String(text).replaceAll("'", "'\\''")}'`);
