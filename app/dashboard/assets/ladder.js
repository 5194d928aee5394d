// The ladder diagram: what both sides sent, in order, with slanted arrows. Rows are made as events come and
// drawn only where they can be seen. Only this side's moments are known, so the dot is on this side's lifeline.
import { after, bytes, clamp, clip, count, duration, h, once, s, stamp, text } from './util.js';
import { hover, lost, model, view } from './model.js';
import { span } from './plot.js';
import { fate, fit, kind, label, marks, sentence, short, title, why } from './words.js';

const FOLD_MIN = 16; // routine events in a row before they become one: a short page's transfer stays whole
const FOLD_MOST = 256; // and after so many a new run begins, so that a long transfer keeps its rhythm
const FOLD_PAUSE = 0.1; // s; as does a pause, which is what a person looks for
const FOLD_AFTER = 30; // events at the beginning of a connection, where the story is, stay whole
const PAUSE = 0.4; // s without events that get a row of their own
const OVERSCAN = 400; // px that are drawn beyond the window
const EXPORT_ROWS = 300; // of a saved picture: taller ones open nowhere
const heights = { packet: 30, state: 26, call: 24, timer: 24, gap: 34, pause: 26, run: 62, peer: 26, link: 26 };
const SLANT = 13; // px that an arrow falls

/** quiet are calls that a long transfer is full of. */
const quiet = /^(read|write|readv|writev|recv|recvfrom|recvmsg|send|sendto|sendmsg|poll|epoll_wait|epoll_ctl)/;

const many = (n, what) => `${count(n)} ${what}${n === 1 ? '' : 's'}`;

export class Ladder {
  constructor(box, { onOpen, countOut, follow }) {
    this.onOpen = onOpen;
    this.countOut = countOut;
    this.follow = follow;
    this.fold = true;
    this.expanded = new Set();
    this.peers = h('div', { class: 'peers' }, this.left = h('span'), this.right = h('span'));
    this.svg = s('svg', { class: 'ladder-svg', 'aria-hidden': 'false' });
    this.lines = s('g', { class: 'lifelines' });
    this.body = s('g', { role: 'presentation' });
    this.svg.append(this.lines, this.body);
    this.room = h('div', { class: 'ladder-room' }, this.svg);
    this.scroll = h('div', { class: 'ladder-scroll', tabindex: 0, role: 'listbox', 'aria-label': 'Segments, states and calls in order. Arrow keys move, Enter opens.' }, this.room);
    this.empty = h('div', { class: 'empty' });
    box.append(this.peers, this.scroll, this.empty);
    this.drawn = new Map();
    this.draw = once(() => this.#draw());
    this.scroll.addEventListener('scroll', () => {
      const end = this.scroll.scrollHeight - this.scroll.clientHeight;
      // A scroll by hand away from the end stops following; our own scrolls go to the end.
      if (this.scroll.scrollTop < end - 60 && !this.placing) this.follow.checked = false;
      this.placing = false;
      this.draw();
    }, { passive: true });
    this.scroll.addEventListener('keydown', (e) => this.#key(e));
    this.scroll.addEventListener('click', (e) => this.#click(e));
    this.scroll.addEventListener('pointermove', (e) => {
      const row = this.#rowOf(e.target);
      hover.set(row ? row.t : null, this);
    });
    this.scroll.addEventListener('pointerleave', () => hover.set(null, this));
    new ResizeObserver(() => { this.#measure(); this.draw(); }).observe(this.scroll);
    follow.addEventListener('change', () => this.draw());
    model.addEventListener('reset', () => this.rebuild());
    model.addEventListener('batch', () => this.grow());
    model.addEventListener('lost', (e) => this.#again(e.detail));
    view.addEventListener('change', (e) => {
      if ('relative' in e.detail) this.version++;
      if ('time' in e.detail && view.time !== null) this.#reveal(view.time);
      this.draw();
    });
    hover.addEventListener('change', () => this.draw());
    span.addEventListener('change', () => {
      if (span.min !== null && !this.follow.checked) this.#reveal(span.min + model.t0, 1);
      this.draw();
    });
    this.version = 0;
    this.rebuild();
  }

  /** rebuild makes all rows anew. */
  rebuild() {
    this.rows = [];
    this.next = model.base;
    this.run = null;
    this.remote = null;
    this.fins = {};
    this.lastT = null;
    this.bottom = 0;
    this.drawn.forEach((d) => d.g.remove());
    this.drawn.clear();
    this.version++;
    this.grow();
  }

  setFold(on) {
    this.fold = on;
    this.expanded.clear();
    this.rebuild();
  }

  /** grow makes rows of the events that are new. */
  grow() {
    const { events, base } = model;
    if (this.next < base) this.next = base; // more came in one frame than is kept
    this.#trim();
    for (let i = this.next - base; i < events.length; i++) this.#add(events[i], base + i);
    this.next = base + events.length;
    this.draw();
  }

  #trim() {
    const gone = after(this.rows, (r) => (r.last ?? r.i) < model.base);
    if (!gone) return;
    this.rows.splice(0, gone);
    if (this.run && this.run.first < model.base) this.run = null; // its rows may be gone
  }

  #add(e, i) {
    if (this.lastT !== null && e.t - this.lastT > PAUSE) {
      this.run = null;
      this.#push({ kind: 'pause', i, t: e.t, length: e.t - this.lastT });
    }
    const routine = i >= FOLD_AFTER && this.#routine(e);
    if (routine) {
      const r = this.run;
      if (!r || e.t - this.lastT > FOLD_PAUSE || r.n >= FOLD_MOST) {
        this.run = { first: i, n: 0, at: this.rows.length, key: e.seq };
      }
    } else {
      this.run = null;
    }
    this.lastT = e.t;
    const run = this.run;
    if (run) {
      run.n++;
      if (run.row) {
        this.#sum(run.row, e, i);
        this.#peer(e, i, true);
        return;
      }
      if (this.fold && run.n >= FOLD_MIN && !this.expanded.has(run.key)) {
        this.#close(run, e, i);
        return;
      }
    }
    switch (e.k) {
      case 'p': this.#push({ kind: 'packet', i, t: e.t, e }); break;
      case 'l': this.#push({ kind: lost(e) ? 'packet' : 'link', i, t: e.t, e }); break;
      case 's': this.#push({ kind: 'state', i, t: e.t, e }); break;
      case 'c': this.#push({ kind: 'call', i, t: e.t, e }); break;
      case 't': this.#push({ kind: 'timer', i, t: e.t, e }); break;
      case 'gap': this.#push({ kind: 'gap', i, t: e.t, e }); break;
      default: return;
    }
    if (e.k === 'p') this.#peer(e, i, false);
  }

  #routine(e) {
    if (e.k === 'c') return quiet.test(e.name) && (!e.error || e.error === 'EAGAIN');
    if (e.k !== 'p' || e.retransmit || e.lost || e.drop || e.link?.some((l) => l.action !== 'delay' && l.action !== 'hold')) return false;
    const k = kind(e);
    return k === 'DATA' || k === 'ACK';
  }

  // close makes one row of the run's rows so far, and of e.
  #close(run, e, i) {
    const gone = this.rows.splice(run.at);
    this.bottom = gone[0]?.y ?? this.bottom;
    const row = { kind: 'run', i: run.first, last: i, key: run.key, t: 0, rev: 0,
      out: { n: 0, bytes: 0, acks: 0, lo: Infinity, hi: 0 }, in: { n: 0, bytes: 0, acks: 0, lo: Infinity, hi: 0 }, dups: 0, calls: 0 };
    for (const g of gone) {
      if (g.e && g.kind !== 'peer') this.#sum(row, g.e, g.i);
    }
    this.#sum(row, e, i);
    row.t = gone[0]?.t ?? e.t;
    run.row = this.#push(row);
  }

  #sum(row, e, i) {
    row.last = i;
    row.tEnd = e.t;
    row.rev++;
    if (e.k === 'c') { row.calls++; return; }
    const d = e.out ? row.out : row.in;
    if (e.plen > 0) {
      d.n += e.segs ?? 1;
      d.bytes += e.plen;
      d.lo = Math.min(d.lo, e.rel?.seq ?? e.seqno);
      d.hi = Math.max(d.hi, (e.rel?.seq ?? e.seqno) + e.plen);
    } else {
      d.acks++;
      d.ack = e.rel?.ack ?? e.ack;
      if (e.dup) row.dups++;
    }
  }

  #push(row) {
    row.h = heights[row.kind];
    row.y = this.bottom;
    row.rev ??= 0;
    row.id ??= `${row.kind}-${row.e?.seq ?? row.key ?? row.i}`;
    this.bottom += row.h;
    this.rows.push(row);
    return row;
  }

  // peer infers the other side's state from the segments that were seen.
  #peer(e, i, silent) {
    const was = this.remote ?? (model.connection()?.role === 'client' ? 'LISTEN' : 'CLOSED');
    const f = e.flags ?? '', acks = f.includes('.');
    let now = was;
    const covers = (fin) => acks && fin !== undefined && ((e.ack - fin) | 0) >= 0;
    if (f.includes('R')) now = 'CLOSED';
    else if (e.out) {
      if (e.lost) { /* it did not get there */ }
      else if (f.includes('S') && acks) { /* its answer will tell */ }
      else if (was === 'SYN-RECEIVED' && acks) now = 'ESTABLISHED';
      else if (covers(this.fins.theirs)) now = { 'FIN-WAIT-1': 'FIN-WAIT-2', 'LAST-ACK': 'CLOSED', CLOSING: 'TIME-WAIT' }[was] ?? was;
      if (f.includes('F')) this.fins.ours = (e.seqno + e.plen + 1) >>> 0;
    } else {
      if (f.includes('S')) now = acks ? 'SYN-RECEIVED' : 'SYN-SENT';
      else if (was === 'SYN-SENT' && acks) now = 'ESTABLISHED';
      if (covers(this.fins.ours)) now = { ESTABLISHED: 'CLOSE-WAIT', 'FIN-WAIT-1': 'CLOSING', 'FIN-WAIT-2': 'TIME-WAIT' }[now] ?? now;
      if (f.includes('F')) {
        if (this.fins.theirs === undefined) now = { ESTABLISHED: 'FIN-WAIT-1', 'CLOSE-WAIT': 'LAST-ACK' }[now] ?? now;
        this.fins.theirs = (e.seqno + e.plen + 1) >>> 0;
      }
    }
    this.remote = now;
    if (now !== was && !silent) this.#push({ kind: 'peer', i, t: e.t, state: now, id: `peer-${e.seq}` });
  }

  // again makes rows anew from an event on, whose fate was learnt late.
  #again(index) {
    const at = after(this.rows, (r) => (r.last ?? r.i) < index);
    const row = this.rows[at];
    if (!row) return;
    if (row.kind !== 'run') { row.rev++; this.draw(); return; }
    this.rows.splice(at);
    this.bottom = row.y;
    this.run = null;
    this.next = Math.max(row.i, model.base);
    this.lastT = this.rows.at(-1)?.tEnd ?? this.rows.at(-1)?.t ?? null;
    this.grow();
  }

  #measure() {
    const w = this.scroll.clientWidth;
    if (!w) return;
    const wide = w >= 560, server = model.connection()?.role !== 'client';
    const time = wide ? 80 : 58, near = wide ? clamp(w - time - 400, 160, 280) : 10, far = wide ? 104 : 10;
    const l = wide ? time + (server ? far : near) : time + 10;
    const r = w - (wide ? (server ? near : far) : 12);
    const g = { w, wide, time, l, r, local: server ? r : l, remote: server ? l : r, server };
    this.#chars();
    if (!this.geo || JSON.stringify(g) !== JSON.stringify(this.geo)) { this.geo = g; this.version++; }
    const info = model.connection();
    const mine = `${info?.local ?? 'this side'}`, theirs = `${info?.remote ?? 'the other side'}`;
    const [a, b] = server ? [theirs, mine] : [mine, theirs];
    text(this.left, a);
    text(this.right, b);
    this.left.dataset.side = server ? 'remote' : 'local';
    this.right.dataset.side = server ? 'local' : 'remote';
    this.peers.style.paddingLeft = `${wide ? Math.max(l - 90, 0) : 8}px`;
    this.peers.style.paddingRight = `${wide ? Math.max(w - r - 90, 0) : 8}px`;
  }

  // chars learns how wide a character is, so that a text can be cut before it is drawn.
  #chars() {
    if (this.char) return;
    const c = document.createElement('canvas').getContext('2d');
    const style = getComputedStyle(this.scroll);
    c.font = `12px ${style.fontFamily}`;
    this.char = c.measureText('DATA 1,449:2,897 · 1,448 B · ack 77').width / 35;
    c.font = `11px ${style.getPropertyValue('--mono')}`;
    this.mono = c.measureText('0').width;
  }

  #draw() {
    if (!this.scroll.isConnected || !this.scroll.clientWidth) return;
    this.#measure();
    const top = this.rows[0]?.y ?? 0, height = this.bottom - top;
    const { clientHeight } = this.scroll;
    this.room.style.height = `${height + 12}px`;
    if (this.follow.checked && view.time === null) {
      const end = Math.max(0, height + 12 - clientHeight);
      if (Math.abs(this.scroll.scrollTop - end) > 1) { this.placing = true; this.scroll.scrollTop = end; }
    }
    const { scrollTop } = this.scroll;
    const from = Math.max(0, scrollTop - OVERSCAN), to = Math.min(height, scrollTop + clientHeight + OVERSCAN);
    this.svg.style.top = `${from}px`;
    this.svg.setAttribute('width', this.geo.w);
    this.svg.setAttribute('height', Math.max(to - from, 0));
    this.svg.setAttribute('viewBox', `0 ${top + from} ${this.geo.w} ${Math.max(to - from, 1)}`);
    this.#lifelines(this.lines, top + from, top + to);

    const seen = new Set();
    let nearest = null;
    for (let i = after(this.rows, (r) => r.y + r.h <= top + from); i < this.rows.length && this.rows[i].y < top + to; i++) {
      const row = this.rows[i];
      seen.add(row.id);
      const version = `${this.version}.${row.rev}`;
      let d = this.drawn.get(row.id);
      if (!d || d.version !== version) {
        const g = this.#row(row);
        if (d) d.g.replaceWith(g); else this.body.append(g);
        d = { g, version, row };
        this.drawn.set(row.id, d);
      }
      d.row = row;
      if (d.y !== row.y) { d.y = row.y; d.g.setAttribute('transform', `translate(0 ${row.y})`); }
      const brushed = span.min !== null && row.t - model.t0 >= span.min && row.t - model.t0 <= span.max;
      const cls = `row ${row.kind}${brushed ? ' brushed' : ''}${this.#is(row, view.selected) ? ' selected' : ''}${view.shows(row.t) ? '' : ' future'}`;
      if (d.cls !== cls) { d.cls = cls; d.g.setAttribute('class', cls); d.g.setAttribute('aria-selected', cls.includes(' selected')); }
      if (hover.time !== null && row.t <= hover.time) nearest = d;
    }
    for (const [id, d] of this.drawn) {
      if (!seen.has(id)) { d.g.remove(); this.drawn.delete(id); }
    }
    if (this.hovered !== nearest) {
      this.hovered?.g.classList.remove('hover');
      nearest?.g.classList.add('hover');
      this.hovered = nearest;
    } else {
      nearest?.g.classList.add('hover');
    }
    const chosen = view.selected && [...this.drawn.values()].find((d) => d.row.e?.seq === view.selected);
    if (chosen) this.scroll.setAttribute('aria-activedescendant', chosen.g.id);
    const { received } = model.totals, packets = model.counts(view.time)?.packets;
    text(this.countOut, packets ? `${count(packets)} packets${model.base ? `, the newest ${count(model.events.length)} events kept` : ''}` : '');
    this.empty.hidden = received > 0;
    if (!received) text(this.empty, 'Waiting for the first segment of this connection.');
  }

  #is(row, seq) {
    if (!seq) return false;
    if (row.kind === 'peer') return false;
    if (row.kind !== 'run') return row.e?.seq === seq;
    const i = model.indexOf(seq) + model.base;
    return i >= row.i && i <= row.last;
  }

  #lifelines(g, y0, y1) {
    const { l, r, local } = this.geo;
    const key = `${l} ${r} ${y0} ${y1}`;
    if (g.dataset.key === key) return;
    g.dataset.key = key;
    g.replaceChildren(
      s('line', { x1: l, x2: l, y1: y0, y2: y1, class: l === local ? 'life local' : 'life' }),
      s('line', { x1: r, x2: r, y1: y0, y2: y1, class: r === local ? 'life local' : 'life' }));
  }

  #row(row) {
    const { w, time } = this.geo, e = row.e;
    const g = s('g', { id: `ladder-${row.id}`, role: 'option', 'data-id': row.id, 'data-seq': e?.seq ?? null });
    g.append(s('rect', { class: 'back', x: 0, y: 0, width: w, height: row.h }), s('rect', { class: 'brush', x: 0, y: 0, width: 4, height: row.h }));
    if (row.kind !== 'peer' && row.kind !== 'pause') {
      g.append(s('text', { class: 'time', x: time - 8, y: row.kind === 'packet' ? (e.out ? 9 : 9 + SLANT) + 3.5 : row.h / 2 + 4, 'text-anchor': 'end' },
        stamp(row.t - model.t0, this.geo.wide ? 6 : 4)));
    }
    g.setAttribute('aria-label', e ? sentence(e, model.t0) : this[`name_${row.kind}`]?.(row) ?? row.kind);
    this[`draw_${row.kind}`](g, row, e);
    return g;
  }

  draw_packet(g, row, e) {
    const { l, r, local, remote, wide } = this.geo;
    const y0 = 9, y1 = 9 + SLANT;
    const from = e.out ? local : remote, to = e.out ? remote : local;
    const k = kind(e), end = fate(e), gone = e.lost || lost(e);
    const cls = ['arrow', k.toLowerCase(), e.plen ? 'carries' : '', e.retransmit ? 'again' : '', end ? 'lost' : '', e.dup ? 'dup' : ''].join(' ');
    g.dataset.kind = k;
    if (e.retransmit) g.dataset.retransmit = e.retransmit;
    if (end) g.dataset.lost = end;
    const part = gone ? 0.72 : 1; // a lost packet does not arrive
    const x1 = from + (to - from) * part, yy = y0 + (y1 - y0) * part, dir = Math.sign(to - from);
    g.append(s('line', { class: cls, x1: from, y1: y0, x2: x1 - (gone ? 0 : dir * 7), y2: yy - (gone ? 0 : 0.3) }));
    if (gone) {
      g.append(s('path', { class: 'cross', d: `M${x1 - 5} ${yy - 5}l10 10m0 -10l-10 10` }));
    } else {
      const a = Math.atan2(y1 - y0, to - from) * 180 / Math.PI;
      g.append(s('path', { class: `head ${cls}`, d: 'M0 0L-9 -4L-9 4Z', transform: `translate(${to} ${y1}) rotate(${a})` }));
      if (e.drop) g.append(s('path', { class: 'cross', d: `M${to - dir * 14 - 4.5} ${y1 - 5.5}l9 9m0 -9l-9 9` }));
    }
    if (!gone || e.out) g.append(s('circle', { class: 'dot', cx: local, cy: e.out ? y0 : y1, r: 2.6 }));
    const angle = Math.atan2(SLANT, r - l) * 180 / Math.PI * (to > from ? 1 : -1);
    const [word, numbers] = label(e);
    const extra = wide ? '' : [e.retransmit && `⟲ ${e.retransmit}`, end].filter(Boolean).join(' ');
    const room = Math.floor((r - l - 30) / this.char) - word.length - 1 - (extra ? extra.length + 3 : 0);
    g.append(s('text', { class: 'label', x: (l + r) / 2, y: (y0 + y1) / 2 - 4, 'text-anchor': 'middle', transform: `rotate(${angle.toFixed(2)} ${(l + r) / 2} ${(y0 + y1) / 2})` },
      s('tspan', { class: 'word' }, word), ` ${fit(numbers, room)}`,
      extra && s('tspan', { class: 'bad' }, ` · ${extra}`)));
    if (!wide) return;
    // Beside the lifeline of this side: what the packet is apart from its numbers.
    const notes = [];
    if (e.retransmit) notes.push([`⟲ again: ${e.retransmit}`, 'bad', why(e.retransmit)]);
    if (end) notes.push([`✕ ${end}`, 'bad', end]);
    if (marks(e)) notes.push([marks(e), 'note', marks(e)]);
    if (e.segs > 1) notes.push([`${e.segs} segments`, 'note', 'a super-packet that is cut on the wire']);
    const dot = e.out ? y0 : y1;
    notes.slice(0, 2).forEach(([t, c, title], i, all) => {
      const y = all.length > 1 ? 10 + i * 13 : dot + 4;
      g.append(s('text', { class: c, x: this.#beside(12), y, 'text-anchor': this.#anchor() }, clip(t, this.#space(12, this.char * (c === 'bad' ? 1.1 : 1))), s('title', {}, title)));
    });
  }

  // Places beside this side's lifeline: outside of it where there is room, else inside.
  #out() { return this.geo.wide ? (this.geo.server ? 1 : -1) : (this.geo.server ? -1 : 1); }
  #beside(dx) { return this.geo.local + this.#out() * dx; }
  #anchor(far) { const o = far ? -this.#out() : this.#out(); return o > 0 ? 'start' : 'end'; }
  #space(dx, char = this.char) {
    const { wide, w, l, r, local, time } = this.geo;
    const room = wide ? (this.geo.server ? w - local : local - time) : r - l;
    return Math.floor((room - dx - 6) / char);
  }

  draw_call(g, row, e) {
    const y = row.h / 2;
    g.append(s('path', { class: 'tick', d: `M${this.geo.local} ${y}h${this.#out() * 7}` }));
    const t = s('text', { class: `call${e.error && e.error !== 'EAGAIN' ? ' bad' : ''}`, x: this.#beside(11), y: y + 4, 'text-anchor': this.#anchor() },
      short(e, this.#space(11, this.mono)), s('title', {}, `${e.text}${e.dur ? `  took ${duration(e.dur)}` : ''}`));
    g.append(t);
  }

  #pill(g, name, x, anchor, y, cls) {
    const wide = name.length * 6.9 + 16, x0 = anchor === 'start' ? x : x - wide;
    g.append(s('rect', { class: `pill-box ${cls}`, x: x0, y: y - 9, width: wide, height: 18, rx: 9 }),
      s('text', { class: `pill-text ${cls}`, x: x0 + wide / 2, y: y + 3.8, 'text-anchor': 'middle' }, name));
  }

  draw_state(g, row, e) {
    const y = row.h / 2;
    g.append(s('circle', { class: 'state-dot', cx: this.geo.local, cy: y, r: 4 }));
    this.#pill(g, e.to, this.#beside(10), this.#anchor(), y, `state ${e.to.toLowerCase()}`);
  }

  draw_peer(g, row) {
    const { remote } = this.geo, y = row.h / 2, o = -this.#out();
    g.append(s('circle', { class: 'state-dot inferred', cx: remote, cy: y, r: 3.5 }));
    this.#pill(g, row.state, remote + o * 10, o > 0 ? 'start' : 'end', y, 'inferred');
    g.append(s('title', {}, 'inferred from the segments: this side cannot see the other’s state'));
  }

  name_peer(row) { return `the other side is now ${row.state}, as far as its segments show`; }

  draw_timer(g, row, e) {
    const y = row.h / 2;
    g.append(s('circle', { class: 'timer-dot', cx: this.geo.local, cy: y, r: 5 }), s('path', { class: 'timer-hand', d: `M${this.geo.local} ${y - 3}v3h2.5` }),
      s('text', { class: 'note', x: this.#beside(12), y: y + 4, 'text-anchor': this.#anchor() }, clip(`${e.name} timer fired`, this.#space(12))));
  }

  draw_link(g, row, e) {
    const { l, r } = this.geo;
    g.append(s('text', { class: 'note', x: (l + r) / 2, y: row.h / 2 + 4, 'text-anchor': 'middle' },
      clip(`link, ${e.out ? 'out' : 'in'}: ${e.action}${e.why && e.why !== e.action ? ` (${e.why})` : ''} of ${title(e)}`, Math.floor((r - l - 10) / this.char))));
  }

  draw_pause(g, row) {
    const { l, r } = this.geo, y = row.h / 2;
    for (const x of [l, r]) g.append(s('line', { class: 'life-cut', x1: x, x2: x, y1: 4, y2: row.h - 4 }));
    g.append(s('text', { class: 'pause', x: (l + r) / 2, y: y + 4, 'text-anchor': 'middle' }, `${duration(row.length)} pass`));
  }

  name_pause(row) { return `${duration(row.length)} pass`; }

  draw_gap(g, row, e) {
    const { l, r } = this.geo;
    let d = `M${l - 10} 14`;
    for (let x = l - 10, up = true; x < r + 10; x += 8, up = !up) d += `l8 ${up ? 6 : -6}`;
    g.append(s('path', { class: 'zigzag', d }),
      s('text', { class: 'bad', x: (l + r) / 2, y: 30, 'text-anchor': 'middle' }, `${count(e.n)} events are missing here`));
  }

  draw_run(g, row) {
    const { l, r, local, remote } = this.geo, H = row.h;
    const ways = [[row.out, local, remote, 'sent'], [row.in, remote, local, 'received']].filter(([d]) => d.n || d.acks);
    const data = ways.find(([d]) => d.n) ?? ways[0];
    if (data) {
      const [, from, to] = data;
      g.append(s('polygon', { class: 'band', points: `${from},6 ${to},${6 + SLANT} ${to},${H - 6} ${from},${H - 6 - SLANT}` }));
      for (let i = 0; i < 2; i++) {
        const y = 6 + i * (H - 12 - SLANT), dir = Math.sign(to - from);
        g.append(s('line', { class: 'thin', x1: from, y1: y, x2: to - dir * 6, y2: y + SLANT - 0.3 }),
          s('path', { class: 'thin-head', d: 'M0 0L-7 -3L-7 3Z', transform: `translate(${to} ${y + SLANT}) rotate(${Math.atan2(SLANT, to - from) * 180 / Math.PI})` }));
      }
    }
    const lines = ways.map(([d, , , way]) => this.#sumLine(d, way)).slice(0, 2);
    const room = Math.floor((r - l - 16) / this.char);
    lines.forEach((t, i) => {
      const y = H / 2 + 4 + (lines.length > 1 ? (i ? 9 : -8) : 0);
      g.append(s('text', { class: 'run-text', x: (l + r) / 2, y, 'text-anchor': 'middle' }, fit(t, room)));
    });
    const side = [`＋ unfold ${count(row.last - row.i + 1)}`, `${duration(row.tEnd - row.t)}${row.calls ? `, ${many(row.calls, 'call')}` : ''}${row.dups ? `, ${row.dups} dup` : ''}`];
    if (this.geo.wide) {
      side.forEach((t, i) => g.append(s('text', { class: i ? 'note' : 'more', x: this.#beside(12), y: H / 2 - 3 + i * 15, 'text-anchor': this.#anchor() }, clip(t, this.#space(12)))));
    } else {
      g.append(s('text', { class: 'more', x: this.geo.time - 8, y: H / 2 + 20, 'text-anchor': 'end' }, `＋${count(row.last - row.i + 1)}`));
    }
  }

  #sumLine(d, way) {
    if (d.n) return [`${many(d.n, 'segment')} ${way}`, bytes(d.bytes), `${count(d.lo)}:${count(d.hi)}`];
    return [`${many(d.acks, 'ACK')} ${way}`, `up to ${count(d.ack)}`];
  }

  name_run(row) {
    return ['folded:', ...[[row.out, 'sent'], [row.in, 'received']].filter(([d]) => d.n || d.acks).map(([d, way]) => this.#sumLine(d, way).join(', ')), 'Enter unfolds'].join(' ');
  }

  #rowOf(target) {
    const id = target.closest?.('g[data-id]')?.dataset.id;
    return id ? this.drawn.get(id)?.row : null;
  }

  #click(e) {
    const row = this.#rowOf(e.target);
    if (row) this.#choose(row, true);
  }

  #choose(row, open) {
    if (row.kind === 'run') {
      if (open) this.unfold(row.key);
      return;
    }
    if (!row.e || row.kind === 'gap') return;
    view.set({ selected: row.e.seq });
    if (open) this.onOpen(row.e);
  }

  /** unfold shows the events of a run one by one. */
  unfold(key) {
    const { scrollTop } = this.scroll;
    this.follow.checked = false;
    this.expanded.add(key);
    this.rebuild();
    this.placing = true;
    this.scroll.scrollTop = scrollTop;
  }

  #key(e) {
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: 12, PageUp: -12 }[e.key];
    const rows = this.rows.filter((r) => (r.e && r.kind !== 'gap') || r.kind === 'run');
    let at = rows.findIndex((r) => (r.kind === 'run' ? r.key === this.atRun : this.#is(r, view.selected)));
    if (step) at = clamp(at < 0 ? 0 : at + step, 0, rows.length - 1);
    else if (e.key === 'Home') at = 0;
    else if (e.key === 'End') at = rows.length - 1;
    else if (e.key === 'Enter' && rows[at]) { e.preventDefault(); this.#choose(rows[at], true); return; } else return;
    e.preventDefault();
    e.stopPropagation();
    const row = rows[at];
    if (!row) return;
    this.atRun = row.kind === 'run' ? row.key : null;
    if (row.kind === 'run') view.set({ selected: model.events[row.i - model.base]?.seq ?? 0 });
    else this.#choose(row, false);
    this.#show(row);
  }

  // reveal scrolls to the last row of a moment, or to the row after it.
  #reveal(t, next = 0) {
    const row = this.rows[after(this.rows, (r) => r.t <= t) - 1 + next];
    if (row) this.#show(row);
  }

  #show(row) {
    const y = row.y - (this.rows[0]?.y ?? 0), { scrollTop, clientHeight } = this.scroll;
    this.follow.checked = false;
    // On a narrow page the lower half may lie beneath the tour.
    const low = clientHeight * (this.geo.wide ? 0.9 : 0.4);
    if (y < scrollTop + 40 || y + row.h > scrollTop + low) {
      this.placing = true;
      this.scroll.scrollTop = y - low * 0.6;
    }
    this.draw();
  }

  /** picture is the ladder as an SVG element of its own: the rows around what is seen now. */
  picture() {
    const top = this.rows[0]?.y ?? 0;
    const at = after(this.rows, (r) => r.y + r.h <= top + this.scroll.scrollTop);
    const from = clamp(at - EXPORT_ROWS / 2, 0, Math.max(0, this.rows.length - EXPORT_ROWS));
    const rows = this.rows.slice(from, from + EXPORT_ROWS);
    const y0 = (rows[0]?.y ?? 0) - 40, y1 = (rows.at(-1)?.y ?? 0) + (rows.at(-1)?.h ?? 0) + 12;
    const { w, l, r } = this.geo;
    const svg = s('svg', { class: 'ladder-svg', width: w, height: y1 - y0, viewBox: `0 ${y0} ${w} ${y1 - y0}` });
    const lines = s('g');
    this.#lifelines(lines, y0 + 30, y1);
    svg.append(lines,
      s('text', { class: 'peer-name', x: l, y: y0 + 18, 'text-anchor': 'middle' }, this.left.textContent),
      s('text', { class: 'peer-name', x: r, y: y0 + 18, 'text-anchor': 'middle' }, this.right.textContent),
      ...rows.map((row) => {
        const g = this.#row(row);
        g.setAttribute('class', `row ${row.kind}`);
        g.setAttribute('transform', `translate(0 ${row.y})`);
        return g;
      }));
    return svg;
  }
}
