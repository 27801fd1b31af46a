// Small helpers. Text always goes in as text, never as HTML.

export const byId = (id) => document.getElementById(id);

/** Creates an element: properties, then children (nodes or text). */
export function element(tag, properties = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null) continue;
    if (name === 'class') made.className = value;
    else if (name.startsWith('on')) made.addEventListener(name.slice(2), value);
    else if (name === 'data') Object.assign(made.dataset, value);
    else if (name in made) made[name] = value;
    else made.setAttribute(name, value);
  }
  made.append(...children.filter((child) => child !== undefined && child !== null));
  return made;
}

/** Changes text only when it differs, so that a selection and a screen reader are left in peace. */
export function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/**
 * Makes the children of `parent` the ones for `items`, reusing those that are there by key.
 * `make(item)` returns a node; `update(node, item)` brings it up to date.
 */
export function reconcile(parent, items, key, make, update) {
  const known = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  items.forEach((item, index) => {
    const name = String(key(item));
    let node = known.get(name);
    known.delete(name);
    if (!node) {
      node = make(item);
      node.dataset.key = name;
    }
    update(node, item);
    if (parent.children[index] !== node) parent.insertBefore(node, parent.children[index] ?? null);
  });
  known.forEach((node) => node.remove());
}

/** Asks for JSON; an error carries the server's words. */
export async function request(path, options = {}) {
  const answer = await fetch(path, { cache: 'no-store', ...options });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error([body.error ?? `${answer.status} ${answer.statusText}`, body.hint].filter(Boolean).join('. '));
  return body;
}

export function toast(text, bad = false) {
  const made = element('div', { class: bad ? 'toast bad' : 'toast' }, text);
  byId('toasts').append(made);
  setTimeout(() => made.remove(), bad ? 8000 : 3000);
}

/** Copies text; on pages without TLS browsers offer only the old way. */
export async function copy(text) {
  if (navigator.clipboard && window.isSecureContext) {
    await navigator.clipboard.writeText(text);
    return;
  }
  const field = element('textarea', { class: 'visually-hidden', value: text });
  document.body.append(field);
  field.select();
  const done = document.execCommand('copy');
  field.remove();
  if (!done) throw new Error('The browser does not let the page copy.');
}

const UNITS = ['B', 'kB', 'MB', 'GB', 'TB', 'PB'];

/** `1536` as `['1.5', 'kB']`. */
export function bytes(count) {
  let unit = 0;
  let value = count;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1024;
    unit += 1;
  }
  return [value >= 100 || unit === 0 ? value.toFixed(0) : value.toFixed(1), UNITS[unit]];
}

/** Seconds as `3 d 4 h`, `5 min 6 s`. */
export function duration(seconds) {
  const parts = [[86400, 'd'], [3600, 'h'], [60, 'min'], [1, 's']];
  const first = parts.findIndex(([size]) => seconds >= size);
  if (first < 0) return '0 s';
  return parts.slice(first, first + 2).map(([size, unit], index) => {
    const count = Math.floor(index === 0 ? seconds / size : (seconds % parts[first][0]) / size);
    return `${count} ${unit}`;
  }).filter((text, index) => index === 0 || !text.startsWith('0 ')).join(' ');
}
