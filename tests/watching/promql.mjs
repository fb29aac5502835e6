// As much of PromQL as the lint needs: the selectors of an expression with what stands around them, and the names of
// labels that it groups by. Whether an expression is valid is told by Prometheus itself, in `live.mjs`.

const GROUPING = new Set(['by', 'without', 'on', 'ignoring', 'group_left', 'group_right']);
const WORDS = new Set([...GROUPING, 'and', 'or', 'unless', 'bool', 'offset', 'inf', 'nan']);
const TOKEN = /\s*(?:(?<text>"(?:[^"\\]|\\.)*")|(?<name>[a-zA-Z_:][\w:]*)|(?<variable>\$\w+)|(?<number>[\d.]+(?:e\d+)?)|(?<sign>=~|!~|!=|==|>=|<=|[-+*/%^=<>(){}[\],]))/gy;

function tokens(expression) {
  const found = [];
  TOKEN.lastIndex = 0;
  while (TOKEN.lastIndex < expression.length) {
    const at = TOKEN.lastIndex;
    const match = TOKEN.exec(expression);
    if (!match) {
      if (!expression.slice(at).trim()) break;
      throw new Error(`cannot be read from here: ${expression.slice(at)}`);
    }
    const [kind, value] = Object.entries(match.groups).find(([, group]) => group !== undefined);
    found.push({ kind, value });
  }
  return found;
}

/**
 * The selectors of an expression: name, matchers (`{label, op, value}`), range, the functions around it (the nearest
 * first); and the labels that it groups or joins by.
 */
export function read(expression) {
  const all = tokens(expression);
  const selectors = [];
  const grouped = new Set();
  const around = [];
  let i = 0;
  const is = (value, at = i) => all[at]?.value === value && all[at].kind !== 'text';
  const names = () => {
    // At the opening bracket of a list of labels.
    for (i += 1; i < all.length && !is(')'); i += 1) if (all[i].kind === 'name') grouped.add(all[i].value);
    i += 1;
  };
  while (i < all.length) {
    const { kind, value } = all[i];
    if (kind === 'name' && GROUPING.has(value)) {
      i += 1;
      if (is('(')) names();
    } else if (kind === 'name' && (is('(', i + 1) || GROUPING.has(all[i + 1]?.value))) {
      // A function, or an aggregation whose grouping comes before its argument.
      i += 1;
      while (all[i] && GROUPING.has(all[i].value)) {
        i += 1;
        if (is('(')) names();
      }
      if (!is('(')) throw new Error(`${value} has no argument: ${expression}`);
      around.push(value);
      i += 1;
    } else if (kind === 'name' && !WORDS.has(value.toLowerCase())) {
      const selector = { name: value, matchers: [], range: undefined, around: around.filter(Boolean).reverse() };
      i += 1;
      if (is('{')) {
        i += 1;
        while (i < all.length && !is('}')) {
          if (is(',')) i += 1;
          else {
            selector.matchers.push({ label: all[i].value, op: all[i + 1].value, value: JSON.parse(all[i + 2].value) });
            i += 3;
          }
        }
        i += 1;
      }
      if (is('[')) {
        selector.range = '';
        for (i += 1; i < all.length && !is(']'); i += 1) selector.range += all[i].value;
        i += 1;
      }
      selectors.push(selector);
    } else {
      if (is('(')) around.push('');
      if (is(')')) around.pop();
      i += 1;
    }
  }
  if (around.length) throw new Error(`a bracket is open: ${expression}`);
  return { selectors, grouped };
}
