// The table of processes.

import { byId, duration, element, reconcile, request, setText, toast } from './dom.js';

const TONES = { running: 'good', starting: 'warn', stopping: 'warn', backoff: 'warn', fatal: 'bad', exited: 'idle', stopped: 'idle', unknown: 'idle' };
const busy = new Set();

async function change(name, action) {
  busy.add(name);
  await refreshProcesses().catch(() => {});
  try {
    await request(`supervisor/process/${encodeURIComponent(name)}/${action}`, { method: 'POST' });
    toast(`${name}: ${{ start: 'started', stop: 'stopped', restart: 'restarted' }[action]}`);
  } catch (error) {
    toast(error.message, true);
  } finally {
    busy.delete(name);
    await refreshProcesses().catch(() => {});
  }
}

function row({ name }, showLog) {
  const button = (action, text, kind = '') => element('button', {
    class: `button ${kind}`, type: 'button', data: { action }, onclick: () => change(name, action), 'aria-label': `${text} ${name}`,
  }, text);
  return element('tr', {},
    element('td', { class: 'name' }, name, element('small')),
    element('td', {}, element('span', { class: 'pill' })),
    element('td', { class: 'wide' }),
    element('td', { class: 'wide dim' }),
    element('td', { class: 'end' }, element('div', { class: 'row-actions' },
      element('button', { class: 'button', type: 'button', onclick: () => showLog(`${name}.log`), 'aria-label': `Log of ${name}` }, 'Log'),
      button('start', 'Start'), button('restart', 'Restart'), button('stop', 'Stop', 'danger'))));
}

function update(node, process) {
  const [name, state, uptime, pid] = node.children;
  const waiting = busy.has(process.name);
  const pill = state.firstElementChild;
  pill.dataset.tone = TONES[process.state] ?? 'idle';
  setText(pill, process.state === 'exited' && process.exit_status !== null ? `exited (${process.exit_status})` : process.state);
  const troubled = process.state === 'fatal' || process.state === 'backoff';
  setText(name.lastElementChild, troubled ? process.description : '');
  setText(uptime, process.uptime_s === null ? '–' : duration(process.uptime_s));
  setText(pid, process.pid === null ? '–' : String(process.pid));
  const live = ['running', 'starting', 'stopping', 'backoff'].includes(process.state);
  for (const button of node.querySelectorAll('[data-action]')) {
    const { action } = button.dataset;
    button.hidden = action === 'start' ? live : !live;
    const kept = (action === 'stop' && !process.stoppable) || (action === 'restart' && process.name === 'instance_portal');
    button.disabled = waiting || kept;
    button.title = kept ? 'The portal needs this process' : '';
  }
}

/** The overview's short form: a name, a state, and the way to its log. */
export async function refreshBrief(showLog) {
  const section = byId('brief');
  const { processes } = await request('supervisor/processes').catch((error) => {
    section.hidden = true;
    throw error;
  });
  reconcile(byId('brief-list'), processes, (process) => process.name,
    ({ name }) => element('button', { type: 'button', onclick: () => showLog(`${name}.log`) },
      element('span', { class: 'state', 'aria-hidden': 'true' }), element('b', { title: name }, name), element('small')),
    (node, process) => {
      node.dataset.tone = TONES[process.state] ?? 'idle';
      const up = process.state === 'running' && process.uptime_s !== null;
      setText(node.lastElementChild, up ? duration(process.uptime_s) : process.state);
      node.title = `${process.name}: ${process.state}`;
    });
  const running = processes.filter((process) => process.state === 'running').length;
  setText(byId('brief-count'), `${running} of ${processes.length} running`);
  section.hidden = processes.length === 0;
}

export async function refreshProcesses(showLog = row.showLog) {
  row.showLog = showLog;
  const notice = byId('processes-error');
  try {
    const { processes } = await request('supervisor/processes');
    reconcile(byId('processes'), processes, (process) => process.name, (process) => row(process, showLog), update);
    const running = processes.filter((process) => process.state === 'running').length;
    setText(byId('processes-count'), `${running} of ${processes.length} running`);
    notice.hidden = true;
  } catch (error) {
    byId('processes').replaceChildren();
    setText(byId('processes-count'), '');
    setText(notice, error.message);
    notice.hidden = false;
    throw error;
  }
}
