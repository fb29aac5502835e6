// What differs between two values, field by field.

const MAX = 2000;

/** Every leaf with its path. */
function leaves(value, path, out) {
  if (out.size >= MAX) return out;
  const nested = value !== null && typeof value === 'object' && Object.keys(value).length;
  if (nested) for (const [key, inner] of Object.entries(value)) leaves(inner, path ? `${path}.${key}` : key, out);
  else if (path || !nested) out.set(path || '(all)', JSON.stringify(value));
  return out;
}

/** `[{field, before, after}]`, in order of the fields; `undefined` where it is not there. */
export function diff(before, after) {
  const a = before === undefined || before === null ? new Map() : leaves(before, '', new Map());
  const b = after === undefined || after === null ? new Map() : leaves(after, '', new Map());
  const fields = [...new Set([...a.keys(), ...b.keys()])].sort();
  return fields.filter((f) => a.get(f) !== b.get(f)).map((field) => ({ field, before: a.get(field), after: b.get(field) }));
}
