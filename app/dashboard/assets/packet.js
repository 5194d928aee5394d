// The panel of one packet: how it was decided upon, its headers field by field, its bytes.
import { count, duration, h } from './util.js';
import { get } from './api.js';
import { model } from './model.js';
import { fate, marks, title, why } from './words.js';

const stepNames = { rule: 'Rule', table: 'Table', route: 'Route', socket: 'Socket', drop: 'Dropped', retransmit: 'Sent again' };
const PER_LINE = 16; // bytes of the hex view; eight where it is narrow
const NARROW = 420;

export class PacketPanel {
  constructor(box) {
    this.box = box;
    this.seq = 0;
    box.addEventListener('keydown', (e) => { if (e.key === 'Escape') { e.stopPropagation(); this.close(); } });
  }

  close() {
    this.box.hidden = true;
    this.seq = 0;
    this.from?.focus?.({ preventScroll: true });
  }

  /** open shows an event; of a packet, what the server keeps of it. */
  async open(e) {
    if (this.box.hidden) this.from = document.activeElement;
    this.seq = e.seq;
    this.box.hidden = false;
    const name = e.flags ? title(e) : { s: 'Change of state', c: 'Socket call', t: 'Timer' }[e.k] ?? 'Event';
    const head = h('header', {}, h('h2', { id: 'packet-title' }, name),
      h('button', { type: 'button', class: 'quiet', 'aria-label': 'Close the panel', onclick: () => this.close() }, '✕'));
    const facts = h('dl', { class: 'facts small' }, ...this.#facts(e).flatMap(([k, v]) => h('div', {}, h('dt', {}, k), h('dd', {}, v))));
    const rest = h('div', { class: 'packet-rest' });
    this.box.replaceChildren(head, facts, rest);
    if (e.k === 'c') { rest.append(h('pre', { class: 'callout' }, e.text)); return; }
    if (!e.flags) return;
    if (e.k === 'l' && !e.of) {
      rest.append(h('p', { class: 'hint' }, e.out ? '' : 'The link lost this packet before the stack saw it, so the stack decided nothing about it.'));
      return;
    }
    rest.append(h('p', { class: 'hint' }, 'asking…'));
    try {
      const packet = await get(`api/packet/${e.of || e.seq}`);
      if (this.seq !== e.seq) return; // another was opened meanwhile
      rest.replaceChildren(...this.#details(packet));
    } catch (err) {
      if (this.seq !== e.seq) return;
      rest.replaceChildren(h('p', { class: 'error' }, err.status === 404 ? 'Its bytes and decisions are no longer kept: newer packets took their place.' : err.message));
    }
  }

  #facts(e) {
    const list = [['at', `${(e.t - model.t0).toFixed(6)} s`]];
    if (e.flags) {
      list.push(['way', e.out ? 'out' : 'in'], ['IP length', `${count(e.len)} B`], ['window', e.win === undefined ? 'scale not seen' : `${count(e.win)} B`]);
      if (e.rwin !== undefined && e.rwin !== e.win) list.push(['on the wire', `win ${e.rwin}`]);
      if (e.state) list.push(['our state', e.state]);
      if (e.opts) list.push(['options', e.opts]);
      if (e.segs > 1) list.push(['super-packet', `${e.segs} segments on the wire`]);
      if (e.call) list.push(['socket', e.call]);
      if (e.retransmit) list.push(['sent again', h('span', { class: 'bad' }, `${e.retransmit}: ${why(e.retransmit)}`)]);
      if (fate(e)) list.push(['fate', h('span', { class: 'bad' }, fate(e))]);
      if (marks(e)) list.push(['link', marks(e)]);
      const held = e.link?.find((l) => l.action === 'delay');
      if (held) list.push(['link', `held for ${duration(held.delay)}`]);
    } else if (e.k === 's') list.push(['from', e.from], ['to', e.to]);
    else if (e.k === 'c') { list.push(['took', duration(e.dur)], ['returned', String(e.ret)]); if (e.error) list.push(['error', h('span', { class: 'bad' }, e.error)]); }
    else if (e.k === 't') list.push(['timer', e.name], ['action', e.action]);
    return list;
  }

  #details(p) {
    const parts = [];
    if (p.decision?.length) {
      parts.push(h('h3', {}, p.out ? 'How it was sent' : 'How it was delivered'),
        h('ol', { class: 'chain', id: 'chain' }, p.decision.map((d) => h('li', { class: d.step }, h('b', {}, stepNames[d.step] ?? d.step), ' ', d.text.replace(/^table /, '')))));
    }
    const per = this.box.clientWidth < NARROW ? PER_LINE / 2 : PER_LINE;
    const fields = p.fields ?? [], all = (p.hex ?? '').match(/../g) ?? [];
    // Of what is hidden, the rest of a line is enough.
    const data = all.slice(0, Math.ceil((all.findLastIndex((b) => b !== '..') + 1) / per) * per);
    const cells = data.map((b, i) => h('span', { class: b === '..' ? 'byte hidden-byte' : 'byte', 'data-at': i }, b));
    const rows = [];
    for (let i = 0; i < cells.length; i += per) {
      const text = data.slice(i, i + per).map((b) => { const c = parseInt(b, 16); return c >= 32 && c < 127 ? String.fromCharCode(c) : '·'; }).join('');
      rows.push(h('div', { class: 'hex-row' }, h('span', { class: 'offset' }, i.toString(16).padStart(4, '0')), h('span', { class: 'hex' }, cells.slice(i, i + per)), h('span', { class: 'ascii' }, text)));
    }
    const mark = (f) => {
      cells.forEach((c, i) => c.classList.toggle('lit', !!f && i >= f.start && i < f.end));
      for (const li of list.querySelectorAll('[data-field]')) li.classList.toggle('lit', !!f && fields[li.dataset.field] === f);
    };
    const list = h('div', { class: 'fields' });
    const layers = new Map();
    fields.forEach((f, i) => { layers.set(f.layer, [...(layers.get(f.layer) ?? []), [f, i]]); });
    for (const [layer, of] of layers) {
      list.append(h('h4', {}, layer), h('ul', {}, of.map(([f, i]) => h('li', { tabindex: 0, 'data-field': i, onpointerenter: () => mark(f), onfocus: () => mark(f) },
        h('span', { class: 'field-name' }, f.name), h('span', { class: 'field-value' }, String(f.value))))));
    }
    list.addEventListener('pointerleave', () => mark(null));
    const hex = h('div', { class: 'hex-view', role: 'img', 'aria-label': `${data.length} bytes` }, rows);
    hex.addEventListener('pointerover', (e) => {
      const at = e.target.dataset?.at;
      // The innermost field wins: bits and options lie within others.
      mark(at === undefined ? null : fields.filter((f) => f.start <= at && at < f.end).sort((a, b) => (a.end - a.start) - (b.end - b.start))[0] ?? null);
    });
    hex.addEventListener('pointerleave', () => mark(null));
    parts.push(h('h3', {}, 'Headers'), list);
    if (p.text) parts.push(h('h3', {}, 'As tcpdump prints it'), h('pre', { class: 'callout' }, p.text));
    // The bytes stay in sight: a field that is pointed at lights them.
    const left = p.len - p.captured;
    parts.push(h('div', { class: 'bytes' }, h('h3', {}, 'Bytes ', left > 0 && h('span', { class: 'hint' }, `${count(left)} more of payload are not shown${model.info?.payload ? '' : ': catflap --show-payload keeps them'}`)), hex));
    return parts;
  }
}

