// The page: tabs, what is refreshed when, and the theme.

import { applicationUrl, refreshApplications } from './applications.js';
import { refreshBoot } from './boot.js';
import { byId, element, request, setText } from './dom.js';
import { refreshLogs, setLogsVisible, setUpLogs, showLog } from './logs.js';
import { refreshGauges } from './overview.js';
import { refreshBrief, refreshProcesses } from './processes.js';

const EVERY_MS = 2000;
const THEMES = ['system', 'light', 'dark'];
const opened = new Map();
let current = 'overview';

function tabs() {
  return [...byId('tabs').querySelectorAll('[role="tab"]')];
}

/** Shows a section, or an application that was opened here; the address remembers which. */
function show(view, focus = false) {
  const app = view.startsWith('app:') ? opened.get(view.slice(4)) : null;
  if (view.startsWith('app:') && !app) return show('overview', focus);
  current = view;
  for (const panel of document.querySelectorAll('[role="tabpanel"]')) panel.hidden = panel.id !== (app ? 'view-app' : `view-${view}`);
  for (const frame of byId('view-app').children) frame.hidden = frame !== app?.frame && frame !== app?.tools;
  for (const tab of tabs()) {
    const selected = tab.dataset.view === view;
    tab.setAttribute('aria-selected', String(selected));
    tab.tabIndex = selected ? 0 : -1;
    if (selected && focus) tab.focus();
  }
  byId('main').classList.toggle('full', Boolean(app));
  setLogsVisible(view === 'logs');
  const address = `#/${view === 'overview' ? '' : encodeURIComponent(view)}`;
  if (location.hash !== address) history.replaceState(null, '', address);
  refresh();
}

/** Opens an application inside the portal, in a tab of its own. */
function openHere(app) {
  const url = applicationUrl(app.label);
  if (!opened.has(app.label)) {
    const frame = element('iframe', { src: url, title: app.label, allow: 'clipboard-read; clipboard-write; fullscreen; camera; microphone' });
    const tools = element('div', { class: 'frame-tools' },
      element('code', {}, url),
      element('button', { class: 'button quiet', type: 'button', onclick: () => { frame.src = url; } }, 'Reload'),
      element('a', { class: 'button quiet', href: url, target: '_blank', rel: 'noopener' }, 'New window'),
      element('button', { class: 'button quiet', type: 'button', onclick: () => close(app.label) }, 'Close'));
    const tab = element('button', { role: 'tab', data: { view: `app:${app.label}` }, 'aria-controls': 'view-app' }, app.label);
    byId('tabs').append(tab);
    byId('view-app').append(tools, frame);
    opened.set(app.label, { frame, tools, tab });
  }
  show(`app:${app.label}`, true);
}

function close(label) {
  const app = opened.get(label);
  opened.delete(label);
  [app.frame, app.tools, app.tab].forEach((node) => node.remove());
  show('overview', true);
}

function openLog(name) {
  showLog(name);
  show('logs', true);
}

function setLink(up) {
  byId('link').dataset.state = up ? 'up' : 'down';
  setText(byId('link-text'), up ? 'Live' : 'Reconnecting');
}

/** Only what is looked at is asked for, and nothing while nobody looks. */
async function refresh() {
  if (document.hidden) return;
  const wanted = [refreshBoot()];
  if (current === 'overview') wanted.push(refreshGauges(), refreshApplications(openHere), refreshBrief(openLog));
  if (current === 'processes') wanted.push(refreshProcesses(openLog));
  if (current === 'logs') wanted.push(refreshLogs());
  const [first] = await Promise.allSettled(wanted);
  setLink(first.status === 'fulfilled');
}

function setTheme(theme) {
  if (theme === 'system') delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = theme;
  byId('theme').setAttribute('aria-label', `Colour theme: ${theme === 'system' ? 'as the system' : theme}`);
  byId('theme').title = byId('theme').getAttribute('aria-label');
  try { localStorage.setItem('portal-theme', theme); } catch { /* a private window keeps nothing */ }
}

function storedTheme() {
  try { return THEMES.includes(localStorage.getItem('portal-theme')) ? localStorage.getItem('portal-theme') : 'system'; } catch { return 'system'; }
}

function keys(event) {
  const all = tabs();
  const at = all.indexOf(document.activeElement);
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  if (at >= 0 && (step || event.key === 'Home' || event.key === 'End')) {
    event.preventDefault();
    const to = event.key === 'Home' ? 0 : event.key === 'End' ? all.length - 1 : (at + step + all.length) % all.length;
    show(all[to].dataset.view, true);
  }
}

function start() {
  setTheme(storedTheme());
  setUpLogs();
  byId('theme').addEventListener('click', () => setTheme(THEMES[(THEMES.indexOf(storedTheme()) + 1) % THEMES.length]));
  byId('tabs').addEventListener('click', (event) => {
    const tab = event.target.closest('[role="tab"]');
    if (tab) show(tab.dataset.view);
  });
  byId('tabs').addEventListener('keydown', keys);
  byId('boot-log').addEventListener('click', () => openLog('provisioning.log'));
  const fromAddress = () => decodeURIComponent(location.hash.slice(2)) || 'overview';
  const known = (view) => view.startsWith('app:') || byId(`view-${view}`) ? view : 'overview';
  window.addEventListener('hashchange', () => show(known(fromAddress())));
  document.addEventListener('visibilitychange', refresh);
  setInterval(refresh, EVERY_MS);
  show(known(fromAddress()));
  request('capabilities').then(({ instance }) => {
    if (!instance) return;
    setText(byId('instance'), instance);
    byId('instance').hidden = false;
    document.title = `${instance} · Instance Portal`;
  }).catch(() => {});
}

start();
