// Boot and provisioning, while they go on.

import { byId, element, reconcile, request, setText } from './dom.js';

const TONES = { done: 'good', running: 'now', failed: 'bad', panicked: 'bad', 'timed-out': 'bad', 'gave-up': 'bad' };

function time(ms) {
  if (ms === undefined || ms === null) return '';
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

const name = (stage) => stage.replace(/^\d+-/, '').replace(/\.sh$/, '').replaceAll('-', ' ');

/** Shows the progress; true while there is any. */
export async function refreshBoot() {
  const { provisioning, boot } = await request('boot');
  byId('boot').hidden = !provisioning;
  if (!provisioning) return false;
  const stages = boot?.stages ?? [];
  const running = stages.find((stage) => stage.outcome === 'running');
  setText(byId('boot-now'), running ? `Now: ${running.message ?? name(running.stage)}` : 'The provisioning script is running.');
  reconcile(byId('stages'), stages, (stage) => stage.stage,
    () => element('li', {}, element('span'), element('time')),
    (node, stage) => {
      node.dataset.tone = TONES[stage.outcome] ?? '';
      setText(node.firstElementChild, name(stage.stage));
      node.title = stage.message ?? '';
      setText(node.lastElementChild, stage.outcome === 'running' ? '' : time(stage.duration_ms));
    });
  return true;
}
