// The state diagram of RFC 9293, figure 5, with the path that a connection took.
import { clamp, h, once, s, stamp } from './util.js';
import { model, view } from './model.js';

// Where the states stand: column and row. CLOSED is there twice, as in the figure: before and after.
const places = {
  CLOSED: [1, 0], LISTEN: [1, 1], 'SYN-RECEIVED': [0, 2], 'SYN-SENT': [2, 2], ESTABLISHED: [1, 3],
  'FIN-WAIT-1': [0, 4], 'CLOSE-WAIT': [2, 4], 'FIN-WAIT-2': [0, 5], CLOSING: [1, 5], 'LAST-ACK': [2, 5], 'TIME-WAIT': [1, 6], 'CLOSED ': [2, 6],
};

// The transitions: from, to, what happens, what is done, and where the words stand beside the middle of the
// line: to which side they run, and how far from it they begin.
const arrows = [
  ['CLOSED', 'LISTEN', 'passive OPEN', 'create TCB', 'end', -12, 0],
  ['CLOSED', 'SYN-SENT', 'active OPEN', 'snd SYN', 'start', 14, -8],
  ['LISTEN', 'SYN-RECEIVED', 'rcv SYN', 'snd SYN,ACK', 'end', -14, -10],
  ['LISTEN', 'SYN-SENT', 'SEND / snd SYN', '', 'end', 4, 17],
  ['SYN-SENT', 'SYN-RECEIVED', 'rcv SYN / snd SYN,ACK', '', 'middle', -30, 15],
  ['SYN-RECEIVED', 'ESTABLISHED', 'rcv ACK of SYN', '', 'end', -4, 18],
  ['SYN-SENT', 'ESTABLISHED', 'rcv SYN,ACK', 'snd ACK', 'start', 12, 10],
  ['SYN-RECEIVED', 'FIN-WAIT-1', 'CLOSE', 'snd FIN', 'start', 12, 0],
  ['ESTABLISHED', 'FIN-WAIT-1', 'CLOSE', 'snd FIN', 'start', 12, 10],
  ['ESTABLISHED', 'CLOSE-WAIT', 'rcv FIN', 'snd ACK', 'start', 14, -10],
  ['FIN-WAIT-1', 'FIN-WAIT-2', 'rcv ACK of FIN', '', 'start', 12, 4],
  ['FIN-WAIT-1', 'CLOSING', 'rcv FIN', 'snd ACK', 'start', 16, -8],
  ['CLOSE-WAIT', 'LAST-ACK', 'CLOSE', 'snd FIN', 'end', -13, 0],
  ['FIN-WAIT-2', 'TIME-WAIT', 'rcv FIN', 'snd ACK', 'end', -6, 12],
  ['CLOSING', 'TIME-WAIT', 'rcv ACK of FIN', '', 'start', 12, 4],
  ['LAST-ACK', 'CLOSED ', 'rcv ACK of FIN', '', 'end', -13, 4],
  ['TIME-WAIT', 'CLOSED ', '2 MSL', 'delete TCB', 'middle', 0, -16],
];

// Transitions that the figure leaves to the text (RFC 9293 section 3.10), drawn where a connection takes them.
const rare = [
  ['CLOSED', 'SYN-RECEIVED', 'rcv SYN', 'snd SYN,ACK', 'end', -14, -10], // the listener is seen as another connection
  ['FIN-WAIT-1', 'TIME-WAIT', 'rcv FIN, ACK of FIN', 'snd ACK', 'end', -14, 12], // one segment has both: 3.10.7.4
  ['SYN-RECEIVED', 'CLOSE-WAIT', 'rcv FIN', 'snd ACK', 'start', 12, -8],
  ['SYN-RECEIVED', 'LISTEN', 'rcv RST', '', 'start', 12, -8], // of a passive OPEN
  ['SYN-SENT', 'CLOSED ', 'CLOSE', 'delete TCB', 'start', 12, 4],
  ['LISTEN', 'CLOSED ', 'CLOSE', 'delete TCB', 'start', 12, 4],
];

// An end without a transition of its own: by a reset, which is seen as a packet, or because nothing came any more.
const endings = { reset: 'RST', silence: 'no answer: given up', unknown: 'ended' };

/** ending tells why a connection went to CLOSED from a state whose transitions do not lead there. */
export function ending(events, gaps) {
  if (events.some((e) => e.k === 'p' && e.flags?.includes('R'))) return 'reset';
  return gaps ? 'unknown' : 'silence'; // what was missed may have been the RST
}

const NARROW = 480;

export class States {
  constructor(box) {
    this.box = box;
    this.svg = s('svg', { class: 'states-svg', role: 'img', 'aria-labelledby': 'states-title' });
    this.list = h('ol', { class: 'path-list', 'aria-label': 'The path taken, with times' });
    box.append(this.svg, this.list);
    this.draw = once(() => this.#draw());
    for (const what of ['batch', 'reset', 'connections']) model.addEventListener(what, this.draw);
    view.addEventListener('change', this.draw);
    new ResizeObserver(() => { this.key = ''; this.draw(); }).observe(box);
  }

  picture() { return this.svg.cloneNode(true); }

  #draw() {
    const w = clamp(this.box.clientWidth, 0, 620);
    if (!w) return;
    const steps = model.states.filter((e) => view.shows(e.t));
    const key = `${w} ${view.time} ${model.states.length} ${model.states[0]?.seq} ${steps.length}`;
    if (key === this.key) return;
    this.key = key;
    const narrow = w < NARROW, bw = narrow ? 102 : 118, bh = 34;
    const cols = [bw / 2 + 2, w / 2, w - bw / 2 - 2], rowH = narrow ? 66 : 74, height = rowH * 6 + bh + 18;
    const at = (name) => { const [c, r] = places[name]; return [cols[c], 2 + bh / 2 + r * rowH]; };
    this.svg.setAttribute('viewBox', `0 0 ${w} ${height}`);
    this.svg.setAttribute('width', w);
    this.svg.setAttribute('height', height);

    // The path: CLOSED at its end is the lower one.
    const path = steps.map((e, i) => ({ from: e.from, to: e.to === 'CLOSED' && (i > 0 || e.from !== 'CLOSED') ? 'CLOSED ' : e.to, t: e.t }));
    const taken = new Map(path.map((p, i) => [`${p.from}>${p.to}`, i + 1]));
    const reached = new Map();
    if (path[0]) reached.set(path[0].from, null);
    path.forEach((p) => reached.set(p.to, p.t));
    const here = path.at(-1)?.to;

    const lines = [...arrows], why = ending(model.events.filter((e) => view.shows(e.t)), model.totals.gaps || model.base);
    for (const p of path) {
      if (p.from === p.to || !places[p.from] || !places[p.to] || lines.some(([a, b]) => a === p.from && b === p.to)) continue;
      const known = rare.find(([a, b]) => a === p.from && b === p.to && !(b === 'CLOSED ' && why === 'reset'));
      lines.push(known ?? [p.from, p.to, p.to === 'CLOSED ' ? endings[why] : '', '', 'start', 12, 4, p.to === 'CLOSED ' ? why : 'unknown']);
    }
    const edges = s('g'), words = s('g'), nodes = s('g');
    for (const [from, to, event, action, anchor, dx, dy, odd] of lines) {
      const a = edge(at(from), at(to), bw / 2 + 2, bh / 2 + 2), b = edge(at(to), at(from), bw / 2 + 5, bh / 2 + 5);
      const n = taken.get(`${from}>${to}`);
      const angle = Math.atan2(b[1] - a[1], b[0] - a[0]);
      edges.append(s('line', { class: `edge${n ? ' taken' : ''}${odd ? ` odd ${odd}` : ''}`, x1: a[0], y1: a[1], x2: b[0] - 6 * Math.cos(angle), y2: b[1] - 6 * Math.sin(angle) }),
        s('path', { class: `edge-head${n ? ' taken' : ''}${odd === 'reset' ? ' reset' : ''}`, d: 'M0 0L-8 -3.5L-8 3.5Z', transform: `translate(${b[0]} ${b[1]}) rotate(${angle * 180 / Math.PI})` }));
      const mx = (a[0] + b[0]) / 2, my = (a[1] + b[1]) / 2;
      if (n) words.append(s('circle', { class: 'step-dot', cx: mx, cy: my, r: 8.5 }), s('text', { class: 'step-number', x: mx, y: my + 3.6, 'text-anchor': 'middle' }, n));
      if (narrow) continue;
      const line = (t, y, cls = '') => s('text', { class: `edge-text${cls}${n ? ' taken' : ''}`, x: mx + dx, y, 'text-anchor': anchor }, t);
      words.append(line(event, my + dy), action && line(action, my + dy + 11, ' action'));
    }
    for (const name of Object.keys(places)) {
      const [x, y] = at(name), on = reached.has(name);
      const t = reached.get(name);
      nodes.append(s('g', { class: `node${on ? ' on' : ''}${name === here ? ' here' : ''}`, 'data-state': name },
        s('rect', { x: x - bw / 2, y: y - bh / 2, width: bw, height: bh, rx: 8 }),
        s('text', { x, y: t !== null && on ? y - 1.5 : y + 4, 'text-anchor': 'middle', class: 'node-name' }, name.trim()),
        on && t !== null && s('text', { x, y: y + 11.5, 'text-anchor': 'middle', class: 'node-time' }, `${stamp(t - model.t0)} s`)));
    }
    this.svg.replaceChildren(edges, nodes, words);
    this.list.replaceChildren(...(path.length ? path.map((p) => h('li', {}, h('span', { class: 'num' }, `${stamp(p.t - model.t0)} s`), ` ${p.from} → `, h('b', {}, p.to.trim())))
      : [h('li', { class: 'none' }, model.totals.received ? 'No change of state seen: the connection began before anyone looked.' : 'Nothing yet.')]));
  }
}

// edge is where the line from a box's centre to another leaves the box.
function edge([x, y], [tx, ty], hw, hh) {
  const dx = tx - x, dy = ty - y, k = Math.min(hw / Math.abs(dx || 1e-9), hh / Math.abs(dy || 1e-9));
  return [x + dx * k, y + dy * k];
}
