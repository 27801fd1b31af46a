// The cards of the applications.

import { byId, copy, element, reconcile, request, setText, toast } from './dom.js';

const known = new Map();

/** Where this page's browser finds an application; the platform's address, else the same host. */
function address(app) {
  if (app.url) return app.url;
  const path = `/${app.open_path.replace(/^[/\\]+/, '')}`;
  return `${app.proxied ? location.protocol : 'http:'}//${location.hostname}:${app.external_port}${path}`;
}

function tone(label) {
  let sum = 0;
  for (const character of label) sum = (sum * 31 + character.codePointAt(0)) % 997;
  return (sum % 6) + 1;
}

function initials(label) {
  const words = label.split(/[^\p{L}\p{N}]+/u).filter(Boolean);
  return (words.length > 1 ? words[0][0] + words[1][0] : label.slice(0, 2)).toUpperCase();
}

function card(app, open) {
  const tile = element('div', { class: 'tile', 'aria-hidden': 'true' }, initials(app.label));
  tile.style.setProperty('--tone', `var(--c${tone(app.label)})`);
  const label = app.label;
  return element('article', { class: 'card app' },
    element('div', { class: 'app-head' }, tile,
      element('div', { class: 'app-title' }, element('h3', { title: label }, label), element('p')),
      element('span', { class: 'pill' })),
    element('div', { class: 'address' }, element('code'),
      element('button', {
        class: 'copy', type: 'button', 'aria-label': `Copy the address of ${label}`,
        onclick: async (event) => {
          const button = event.currentTarget;
          try {
            await copy(address(known.get(label)));
            button.textContent = 'Copied';
            setTimeout(() => { button.textContent = 'Copy'; }, 1500);
          } catch (error) {
            toast(error.message, true);
          }
        },
      }, 'Copy')),
    element('div', { class: 'app-actions' },
      element('a', { class: 'button primary', target: '_blank', rel: 'noopener' }, 'Open', element('span', { class: 'visually-hidden' }, ` ${label} in a new window`)),
      element('button', { class: 'button', type: 'button', onclick: () => open(known.get(label)) }, 'Open here', element('span', { class: 'visually-hidden' }, ` ${label}`))));
}

function update(node, app) {
  const url = address(app);
  const up = app.state === 'up';
  const pill = node.querySelector('.pill');
  pill.dataset.tone = up ? 'good' : 'warn';
  setText(pill, up ? 'Ready' : 'Starting');
  const ports = app.proxied ? `port ${app.internal_port}, proxied on ${app.external_port}` : `port ${app.internal_port}, direct`;
  setText(node.querySelector('p'), ports);
  setText(node.querySelector('code'), url);
  node.querySelector('code').title = url;
  node.querySelector('a').href = url;
}

export const applicationUrl = (label) => known.has(label) ? address(known.get(label)) : null;

export async function refreshApplications(open) {
  const { applications } = await request('get-applications');
  // The portal itself is what the reader looks at.
  const others = applications.filter((app) => app.internal_port !== 11111);
  known.clear();
  others.forEach((app) => known.set(app.label, app));
  reconcile(byId('apps'), others, (app) => app.label, (app) => card(app, open), update);
  const ready = others.filter((app) => app.state === 'up').length;
  setText(byId('apps-count'), others.length ? `${ready} of ${others.length} ready` : '');
  byId('apps-empty').hidden = others.length > 0;
}
