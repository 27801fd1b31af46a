// The gauges: a number, what it means, and the last minutes.

import { byId, bytes, element, reconcile, request, setText } from './dom.js';

const SVG = 'http://www.w3.org/2000/svg';
const HIGH = 92;

function gauge({ title, note, tone, bar }) {
  const made = element('article', { class: 'card gauge', 'aria-label': title },
    element('h3', {}, title, element('span', {}, note ?? '')),
    element('div', { class: 'value' }, element('b', {}, '–'), element('small', {})),
    element('div', { class: 'detail' }));
  made.style.setProperty('--tone', `var(--c${tone})`);
  if (bar) {
    made.append(element('div', { class: 'track' }, element('div', { class: 'fill' })));
  } else {
    const svg = document.createElementNS(SVG, 'svg');
    svg.setAttribute('viewBox', '0 0 100 40');
    svg.setAttribute('preserveAspectRatio', 'none');
    svg.setAttribute('aria-hidden', 'true');
    for (const name of ['area', 'line', 'line second']) {
      const path = document.createElementNS(SVG, 'path');
      path.setAttribute('class', name);
      svg.append(path);
    }
    made.append(svg);
  }
  return made;
}

/** A path through the values, newest at the right edge. */
function trace(values, top, kept) {
  if (values.length < 2) return '';
  const step = 100 / (kept - 1);
  const start = 100 - (values.length - 1) * step;
  return values.map((value, index) => {
    const y = 38 - Math.min(1, value / top) * 34;
    return `${index ? 'L' : 'M'}${(start + index * step).toFixed(2)} ${y.toFixed(2)}`;
  }).join('');
}

function update(node, shown) {
  setText(node.querySelector('b'), shown.value);
  setText(node.querySelector('small'), shown.unit);
  setText(node.querySelector('.detail'), shown.detail);
  setText(node.querySelector('h3 span'), shown.note ?? '');
  node.dataset.level = shown.level >= HIGH ? 'high' : '';
  if (shown.bar) {
    node.querySelector('.fill').style.width = `${Math.min(100, shown.level).toFixed(1)}%`;
    return;
  }
  const [area, line, second] = node.querySelectorAll('path');
  const top = shown.top ?? Math.max(1, ...shown.series, ...(shown.second ?? []));
  const path = trace(shown.series, top, 150);
  line.setAttribute('d', path);
  const from = 100 - (shown.series.length - 1) * (100 / 149);
  area.setAttribute('d', path && `${path}L100 40L${from.toFixed(2)} 40Z`);
  second.setAttribute('d', shown.second ? trace(shown.second, top, 150) : '');
}

function percent(used, total) {
  return total ? (used / total) * 100 : 0;
}

function ofTotal(usage) {
  const [used, usedUnit] = bytes(usage.used_bytes);
  const [total, unit] = bytes(usage.total_bytes);
  return usedUnit === unit ? `${used} of ${total} ${unit}` : `${used} ${usedUnit} of ${total} ${unit}`;
}

function gauges({ now, history }) {
  const shown = [];
  const sum = (pick) => now.gpus.reduce((total, gpu) => total + pick(gpu), 0);
  if (now.gpus.length) {
    const memory = { used_bytes: sum((gpu) => gpu.memory.used_bytes), total_bytes: sum((gpu) => gpu.memory.total_bytes) };
    const busy = history.gpu_percent.at(-1) ?? 0;
    const first = now.gpus[0];
    const facts = [first.temperature_c && `${Math.round(first.temperature_c)} °C`, first.power_w && `${Math.round(sum((gpu) => gpu.power_w ?? 0))} W`];
    const name = first.name.replace(/^NVIDIA /, '');
    shown.push({ key: 'gpu', title: 'GPU', note: now.gpus.length > 1 ? `${now.gpus.length} × ${name}` : name, tone: 5, value: busy.toFixed(0), unit: '%', detail: facts.filter(Boolean).join(' · '), level: 0, series: history.gpu_percent, top: 100 });
    const share = percent(memory.used_bytes, memory.total_bytes);
    shown.push({ key: 'gpu-memory', title: 'GPU memory', tone: 2, value: share.toFixed(0), unit: '%', detail: ofTotal(memory), level: share, series: history.gpu_memory_percent, top: 100 });
  }
  shown.push({ key: 'cpu', title: 'CPU', tone: 1, value: now.cpu.percent.toFixed(0), unit: '%', detail: `${+now.cpu.cores.toFixed(1)} cores`, level: 0, series: history.cpu_percent, top: 100 });
  const memory = percent(now.memory.used_bytes, now.memory.total_bytes);
  shown.push({ key: 'memory', title: 'Memory', tone: 2, value: memory.toFixed(0), unit: '%', detail: ofTotal(now.memory), level: memory, series: history.memory_percent, top: 100 });
  const [received, unit] = bytes(now.network.received_bytes_per_s);
  const [sent, sentUnit] = bytes(now.network.sent_bytes_per_s);
  shown.push({ key: 'network', title: 'Network', tone: 3, value: received, unit: `${unit}/s in`, detail: `${sent} ${sentUnit}/s out`, level: 0, series: history.received_bytes_per_s, second: history.sent_bytes_per_s });
  for (const disk of now.disks) {
    const level = percent(disk.used_bytes, disk.total_bytes);
    shown.push({ key: `disk ${disk.path}`, title: disk.path === '/' ? 'Disk' : 'Volume', note: disk.path, tone: 4, value: level.toFixed(0), unit: '%', detail: ofTotal(disk), level, bar: true });
  }
  return shown;
}

export async function refreshGauges() {
  const metrics = await request('system-metrics');
  if (metrics.now) reconcile(byId('gauges'), gauges(metrics), (shown) => shown.key, gauge, update);
}
