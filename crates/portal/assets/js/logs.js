// The live log: one file at a time, over a websocket.

import { byId, bytes, element, reconcile, request, setText } from './dom.js';
import { Terminal } from './terminal.js';

const RETRY_MS = 1500;
const view = byId('log');
const terminal = new Terminal(view);
let file = null;
let socket = null;
let retry = null;
let paused = false;
let scheduled = false;
let following = true;
let query = '';
let visible = false;
/** Messages taken in but not yet shown; the server goes on when they are confirmed. */
let unconfirmed = 0;

const matches = (text) => query !== '' && text.toLowerCase().includes(query);

function draw() {
  scheduled = false;
  if (paused) return;
  terminal.flush(matches);
  if (query) countMatches();
  if (following) view.scrollTop = view.scrollHeight;
  for (; unconfirmed > 0; unconfirmed -= 1) socket?.readyState === WebSocket.OPEN && socket.send('shown');
}

function schedule() {
  if (!scheduled && !paused) {
    scheduled = true;
    requestAnimationFrame(draw);
  }
}

function receive(event) {
  const message = JSON.parse(event.data);
  if (message.type === 'restarted') terminal.clear();
  else if (message.type === 'skipped') terminal.note(`… ${bytes(message.bytes).join(' ')} left out: the log is faster than this page …`);
  else if (message.type === 'text') terminal.write(message.text);
  unconfirmed += 1;
  schedule();
}

function connect() {
  clearTimeout(retry);
  unconfirmed = 0;
  if (socket) {
    socket.onclose = null;
    socket.close();
    socket = null;
  }
  if (!file || !visible) return;
  const address = new URL('ws-logs', location.href);
  address.protocol = address.protocol === 'https:' ? 'wss:' : 'ws:';
  address.hash = '';
  address.searchParams.set('file', file);
  address.searchParams.set('confirm', 'true');
  socket = new WebSocket(address);
  socket.onmessage = receive;
  socket.onclose = () => { retry = setTimeout(connect, RETRY_MS); };
}

export function showLog(name) {
  if (name === file) return;
  file = name;
  following = true;
  terminal.clear();
  byId('log-file').value = name;
  byId('log-download').href = `download-logs?file=${encodeURIComponent(name)}`;
  connect();
}

/** A log that is not looked at is not sent. */
export function setLogsVisible(now) {
  if (now === visible) return;
  visible = now;
  connect();
}

export async function refreshLogs() {
  const { logs } = await request('logs');
  const select = byId('log-file');
  reconcile(select, logs, (log) => log.name, (log) => element('option', { value: log.name }, log.name), () => {});
  byId('log-empty').hidden = logs.length > 0;
  if (!file && logs.length) {
    const newest = logs.filter((log) => log.name.endsWith('.log')).sort((one, other) => other.modified_s - one.modified_s)[0];
    showLog((newest ?? logs[0]).name);
  }
  if (file && select.value !== file) select.value = file;
}

function countMatches() {
  const count = view.querySelectorAll('.hit').length;
  setText(byId('log-matches'), `${count} ${count === 1 ? 'line' : 'lines'}`);
}

function search() {
  query = byId('log-search').value.toLowerCase();
  view.classList.toggle('searching', query !== '');
  for (const line of view.children) line.classList.toggle('hit', matches(line.textContent));
  if (query) countMatches(); else setText(byId('log-matches'), '');
  if (following) view.scrollTop = view.scrollHeight;
}

function atEnd() {
  return view.scrollHeight - view.scrollTop - view.clientHeight < 30;
}

export function setUpLogs() {
  byId('log-file').addEventListener('change', (event) => showLog(event.target.value));
  byId('log-search').addEventListener('input', search);
  byId('log-clear').addEventListener('click', () => { terminal.clear(); schedule(); });
  byId('log-pause').addEventListener('click', (event) => {
    paused = !paused;
    event.target.setAttribute('aria-pressed', String(paused));
    setText(event.target, paused ? 'Continue' : 'Pause');
    schedule();
  });
  view.addEventListener('scroll', () => {
    following = atEnd();
    byId('log-jump').hidden = following;
  }, { passive: true });
  byId('log-jump').addEventListener('click', () => {
    following = true;
    view.scrollTop = view.scrollHeight;
    view.focus();
  });
}
