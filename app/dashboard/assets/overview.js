// The drawing of a packet's way through the stack, with what passed and what was dropped at each step.
import { bytes, clip, count, h, once, rate, s, text } from './util.js';
import { model } from './model.js';

// What each step does, for the titles; a step the server does not name is drawn all the same.
const steps = {
  tun: ['TUN', 'the device: packets come from the kernel and go back to it'],
  impair: ['Impairment', 'what netem and its rules do to the link'],
  rules: ['Rules', 'the routing policy: which table is asked'],
  tables: ['Tables', 'the route: is this address ours?'],
  lookup: ['Socket lookup', 'the 4-tuple first, then steering, then listeners'],
  fd: ['fd', 'the socket’s file descriptor: calls of the application'],
  app: ['App', 'the server that reads and writes'],
};

const NARROW = 720; // px below which the way goes down the page

export class Path {
  constructor(box) {
    this.box = box;
    this.svg = s('svg', { class: 'path-svg', role: 'img', 'aria-labelledby': 'path-title' });
    this.spoken = h('p', { class: 'visually-hidden' });
    box.append(this.svg, this.spoken);
    this.draw = once(() => this.#draw());
    new ResizeObserver(() => { this.key = ''; this.draw(); }).observe(box);
    model.addEventListener('overview', this.draw);
  }

  /** picture is the drawing as it is. */
  picture() { return this.svg.cloneNode(true); }

  #draw() {
    const now = model.overview, w = this.box.clientWidth;
    if (!now || !w) return;
    const before = new Map((model.previous?.path ?? []).map((p) => [p.id, p]));
    const dt = model.previous ? now.t - model.previous.t : 0;
    const path = now.path.map((p) => {
      const b = before.get(p.id);
      const per = (k) => (b && dt > 0 && p[k] !== undefined ? Math.max(0, (p[k] - (b[k] ?? 0)) / dt) : 0);
      return { ...p, inRate: per('in'), outRate: per('out') };
    });
    // The way out does not pass the lookup: what leaves the descriptors goes past it.
    const i = path.findIndex((p) => p.id === 'lookup');
    if (i >= 0 && path[i + 1]) path[i].outRate = path[i + 1].outRate;
    const narrow = w < NARROW;
    const key = `${w} ${path.map((p) => `${p.id}${p.name}${lines(p).length}`)}`;
    if (key !== this.key) {
      this.key = key;
      this.parts = narrow ? this.#down(path, w) : this.#across(path, w);
    }
    path.forEach((p, i) => this.#write(p, path[i + 1], this.parts[i]));
    text(this.spoken, path.map((p) => `${p.name ?? p.id}: ${lines(p).map(([l]) => l).join(', ')}`).join('; '));
  }

  #write(p, next, part) {
    if (!part) return;
    lines(p).forEach(([line, kind], j) => {
      const t = part.lines[j];
      if (!t) return;
      text(t, clip(line, part.room));
      t.setAttribute('class', `line ${kind}`);
    });
    if (part.inRate) { // the lanes to the next step: what reaches it, and what leaves it
      const live = model.info?.mode !== 'view';
      text(part.inRate, live ? rate(next.inRate) : '');
      text(part.outRate, live ? rate(next.outRate) : '');
      part.inLane.classList.toggle('flows', next.inRate > 0);
      part.outLane.classList.toggle('flows', next.outRate > 0);
    }
  }

  #across(path, w) {
    const gap = 58, box = (w - 2 - gap * (path.length - 1)) / path.length, top = 8, body = 92;
    const most = Math.max(...path.map((p) => lines(p).length), 2);
    const height = top + body + most * 16 + 14;
    this.svg.setAttribute('viewBox', `0 0 ${w} ${height}`);
    this.svg.setAttribute('width', w);
    this.svg.setAttribute('height', height);
    this.svg.replaceChildren();
    return path.map((p, i) => {
      const x = 1 + i * (box + gap);
      const g = s('g', { class: 'step', id: `path-${p.id}` }, s('title', {}, steps[p.id]?.[1] ?? p.id),
        s('rect', { class: 'box', x, y: top, width: box, height: body - 10, rx: 10 }),
        s('text', { class: 'name', x: x + box / 2, y: top + 34, 'text-anchor': 'middle' }, clip(p.name ?? steps[p.id]?.[0] ?? p.id, Math.floor(box / 7.4))),
        s('text', { class: 'sub', x: x + box / 2, y: top + 54, 'text-anchor': 'middle' }, clip(sub(p), Math.floor(box / 6))));
      const part = { room: Math.floor((box + gap * 0.8) / 6.2), lines: lines(p).map((_, j) => {
        const t = s('text', { class: 'line', x: x + box / 2, y: top + body + 12 + j * 16, 'text-anchor': 'middle' });
        g.append(t);
        return t;
      }) };
      if (i < path.length - 1) {
        const a = x + box + 4, b = x + box + gap - 4, yi = top + 28, yo = top + 58;
        g.append(
          part.inLane = s('line', { class: 'lane in', x1: a, x2: b - 6, y1: yi, y2: yi }), s('path', { class: 'lane-head in', d: `M${b} ${yi}l-8 -4v8z` }),
          part.outLane = s('line', { class: 'lane out', x1: b, x2: a + 6, y1: yo, y2: yo }), s('path', { class: 'lane-head out', d: `M${a} ${yo}l8 -4v8z` }),
          part.inRate = s('text', { class: 'rate', x: (a + b) / 2, y: yi - 7, 'text-anchor': 'middle' }),
          part.outRate = s('text', { class: 'rate', x: (a + b) / 2, y: yo + 16, 'text-anchor': 'middle' }));
      }
      this.svg.append(g);
      return part;
    });
  }

  #down(path, w) {
    const box = 118;
    let y = 4;
    this.svg.replaceChildren();
    const parts = path.map((p, i) => {
      const n = lines(p).length, height = Math.max(44, n * 16 + 12);
      const g = s('g', { class: 'step', id: `path-${p.id}` }, s('title', {}, steps[p.id]?.[1] ?? p.id),
        s('rect', { class: 'box', x: 1, y, width: box, height, rx: 9 }),
        s('text', { class: 'name', x: 1 + box / 2, y: y + height / 2 + (sub(p) ? -2 : 4), 'text-anchor': 'middle' }, clip(p.name ?? p.id, 15)),
        s('text', { class: 'sub', x: 1 + box / 2, y: y + height / 2 + 14, 'text-anchor': 'middle' }, clip(sub(p), 18)));
      const part = { room: Math.floor((w - box - 22) / 6.6), lines: lines(p).map((_, j) => {
        const t = s('text', { class: 'line', x: box + 16, y: y + height / 2 + 4 + (j - (n - 1) / 2) * 16 });
        g.append(t);
        return t;
      }) };
      y += height;
      if (i < path.length - 1) {
        const a = y + 3, b = y + 27, xi = box * 0.36, xo = box * 0.66;
        g.append(
          part.inLane = s('line', { class: 'lane in', x1: xi, x2: xi, y1: a, y2: b - 6 }), s('path', { class: 'lane-head in', d: `M${xi} ${b}l-4 -8h8z` }),
          part.outLane = s('line', { class: 'lane out', x1: xo, x2: xo, y1: b, y2: a + 6 }), s('path', { class: 'lane-head out', d: `M${xo} ${a}l-4 8h8z` }),
          part.inRate = s('text', { class: 'rate', x: xi - 7, y: a + 16, 'text-anchor': 'end' }),
          part.outRate = s('text', { class: 'rate', x: xo + 7, y: a + 16 }));
        y += 30;
      }
      this.svg.append(g);
      return part;
    });
    this.svg.setAttribute('viewBox', `0 0 ${w} ${y + 4}`);
    this.svg.setAttribute('width', w);
    this.svg.setAttribute('height', y + 4);
    return parts;
  }
}

const sub = (p) => (p.id === 'tun' ? model.info?.stack?.driver || '' : p.id === 'impair' ? (model.overview?.netem ? netemState(model.overview.netem) : 'off') : '');

const netemState = (n) => (n.in || n.out || n.rules?.length ? 'on' : 'off');

// lines are what is written beneath a step: [text, kind].
function lines(p) {
  const list = [];
  if (p.in || p.out) list.push([p.id === 'lookup' ? `↓ ${count(p.in ?? 0)}` : `↓ ${count(p.in ?? 0)}  ↑ ${count(p.out ?? 0)}${p.id === 'app' ? ' calls' : ''}`, 'total']);
  if (p.in_bytes) list.push([`↓ ${bytes(p.in_bytes)}`, 'soft']);
  if (p.out_bytes) list.push([`↑ ${bytes(p.out_bytes)}`, 'soft']);
  for (const [what, n] of Object.entries(p.did ?? {})) if (n) list.push([`${count(n)} ${what}`, 'soft']);
  for (const [why, n] of Object.entries(p.drops ?? {})) if (n) list.push([`✕ ${count(n)} ${why}`, 'drop']);
  return list;
}

// The tables in the order of the rules that name them.
const order = (table) => ['local', 'main', 'default'].indexOf(table) + 1 || 9;

/** drawRoutes writes the rules and routes as ip(8) prints them. */
export function drawRoutes(box) {
  const o = model.overview;
  if (!o) return;
  const key = JSON.stringify([o.rules, o.rules6, o.routes]);
  if (box.dataset.key === key) return;
  box.dataset.key = key;
  const tables = new Map();
  for (const r of o.routes ?? []) tables.set(r.table, [...(tables.get(r.table) ?? []), r.text.trim()]);
  box.replaceChildren(
    ...[['ip rule', o.rules], ['ip -6 rule', o.rules6]].filter(([, list]) => list?.length).flatMap(([name, list]) => [h('h3', {}, name),
      h('ul', { class: 'mono-list' }, list.map((r) => h('li', {}, r.replace(/\s+/g, ' ').trim())))]),
    ...[...tables].sort(([a], [b]) => order(a) - order(b)).flatMap(([name, list]) => [h('h3', {}, `ip route show table ${name}`), h('ul', { class: 'mono-list' }, list.map((t) => h('li', {}, t)))]));
}

/** drawListeners writes the sockets that wait for connections, with their queues. */
export function drawListeners(box) {
  const list = model.overview?.listeners ?? [];
  const key = JSON.stringify(list);
  if (box.dataset.key === key) return;
  box.dataset.key = key;
  if (!list.length) { box.replaceChildren(h('p', { class: 'empty' }, 'Nobody listens: a SYN would be answered by a reset.')); return; }
  box.replaceChildren(h('ul', { class: 'listeners' }, list.map((l) => h('li', {},
    h('span', { class: 'mono' }, l.local), h('span', { class: 'hint' }, `fd ${l.fd} · ${l.proto}`),
    l.backlog ? h('span', { class: 'queue' }, h('meter', { min: 0, max: l.backlog, value: l.queue ?? 0, 'aria-label': `accept queue of ${l.local}` }), `${count(l.queue ?? 0)} of ${count(l.backlog)} wait`) : null))));
}
