// What the page knows: bounded, and filled by the stream alone. Views read it in their own frames.
import { after } from './util.js';

// A page may stay open for days beside a busy link: each array has an end.
export const MAX_EVENTS = 20_000; // of the chosen connection: some 25 MB of transfer, a second of drawing at worst
export const MAX_SAMPLES = 10_000; // of its sender; more than a plot has pixels
export const MAX_CALLS = 200; // calls of no connection, as the server keeps them
export const MAX_STATES = 100; // changes of one connection's state: eleven are many
const SLACK = 1.1; // an array may grow this much over its bound before it is cut, so that cutting is rare

/** lost reports whether the link has not let a packet through. */
export const lost = (e) => e.k === 'l' && (e.action === 'drop' || e.action === 'reset' || e.action === 'toobig');

class Model extends EventTarget {
  info = null;
  overview = null;
  previous = null; // the overview before, for rates
  connections = [];
  calls = [];
  id = 0; // the chosen connection, or 0

  // Of the chosen connection.
  events = []; // p, l, s, c, t and gap, in order
  base = 0; // how many events were let go before events[0]
  samples = [];
  states = [];
  totals = { received: 0, gaps: 0, packets: 0 };
  lastT = 0; // the newest time heard of, of the stack's recording
  t0 = 0; // when the connection began
  clock = null; // performance.now() when lastT was heard

  /** choose forgets one connection and waits for another's events. */
  choose(id) {
    this.id = id;
    this.reset();
  }

  reset() {
    this.events = [];
    this.base = 0;
    this.samples = [];
    this.states = [];
    this.totals = { received: 0, gaps: 0, packets: 0 };
    this.counted = null;
    this.t0 = this.connection()?.opened ?? 0;
    this.began = false;
    this.tell('reset');
  }

  tell(what, detail) { this.dispatchEvent(new CustomEvent(what, { detail })); }

  connection() { return this.connections.find((c) => c.id === this.id) ?? null; }

  /** take gets what the stream brings. */
  take(name, data) {
    switch (name) {
      case 'overview':
        this.previous = this.overview;
        this.overview = data;
        this.heard(data.t);
        break;
      case 'connections':
        this.connections = data;
        break;
      case 'calls':
        this.calls = [...this.calls, ...data].slice(-MAX_CALLS);
        break;
      case 'batch':
        if (data.conn !== this.id) return;
        if (data.reset) this.reset();
        this.#batch(data);
        break;
    }
    this.tell(name, data);
  }

  heard(t) {
    if (t >= this.lastT || this.clock === null) {
      this.lastT = t;
      this.clock = performance.now();
    }
  }

  #batch({ events, gap }) {
    const first = events[0];
    // Time counts from the first event that is shown, or, where the beginning is not kept, from the opening.
    const shown = this.began ? null : events.find((e) => e.k !== 'l' || lost(e));
    if (shown) {
      this.began = true;
      this.t0 = shown.flags?.includes('S') ? shown.t : Math.min(this.connection()?.opened ?? shown.t, shown.t);
    }
    if (gap) {
      this.totals.gaps += gap;
      this.events.push({ k: 'gap', n: gap, t: first?.t ?? this.lastT, seq: (first?.seq ?? 0) - 0.5 });
    }
    for (const e of events) {
      this.totals.received++;
      switch (e.k) {
        case 'm':
          this.samples.push(e);
          break;
        case 's':
          if (this.states.length < MAX_STATES) this.states.push(e);
          this.events.push(e);
          break;
        case 't':
          if (e.action === 'fired') this.events.push(e);
          break;
        case 'l':
          this.#link(e);
          break;
        case 'p':
          this.totals.packets++;
          this.events.push(e);
          break;
        default:
          this.events.push(e);
      }
    }
    if (events.length) this.heard(events.at(-1).t);
    const cut = this.events.length > MAX_EVENTS * SLACK ? this.events.length - MAX_EVENTS : 0;
    if (cut) {
      this.events.splice(0, cut);
      this.base += cut;
    }
    if (this.samples.length > MAX_SAMPLES * SLACK) this.samples.splice(0, this.samples.length - MAX_SAMPLES);
  }

  // What the link did belongs to the packet that it was done to, if the stack had it; what the link did
  // before the stack saw the packet stands for itself.
  #link(e) {
    const i = e.of ? this.indexOf(e.of) : -1;
    if (i < 0) {
      if (e.action !== 'delay' && e.action !== 'hold') this.events.push(e);
      return;
    }
    const p = this.events[i];
    (p.link ??= []).push(e);
    if (lost(e) && e.plen < p.plen) { // one segment of a super-packet
      this.events.push(e);
      this.tell('lost', this.base + i);
    } else if (lost(e)) {
      p.lost = e.why || 'the link';
      this.tell('lost', this.base + i);
    }
  }

  /** indexOf returns where the event of a sequence number is in events, or -1. */
  indexOf(seq) {
    const i = after(this.events, (e) => e.seq < seq);
    return this.events[i]?.seq === seq ? i : -1;
  }

  /** now estimates the recording's time. */
  now() {
    if (this.clock === null || this.info?.mode === 'view') return this.lastT;
    return this.lastT + (performance.now() - this.clock) / 1000;
  }

  /** sampleAt returns the last sample up to a time. */
  sampleAt(t) { return this.samples[after(this.samples, (m) => m.t <= t) - 1] ?? null; }

  /**
   * counts are what had happened on the connection up to a moment, or till now: packets, of those sent again, those
   * that the link lost, bytes received and sent. They are counted from the events that all pictures show. Where some
   * are missing, the server's own count stands for now, and of a moment before nothing is known: null.
   */
  counts(time = null) {
    const c = this.connection();
    if (this.base || this.totals.gaps || c?.partial) return time === null && c ? { packets: c.packets, retrans: c.retrans, lost: c.lost, rx: c.rx, tx: c.tx } : null;
    const upTo = time === null ? this.events.length : after(this.events, (e) => e.t <= time + 1e-9);
    if (!this.counted || this.counted.upTo > upTo || this.counted.of !== this.events) {
      this.counted = { of: this.events, upTo: 0, packets: 0, retrans: 0, ack: 1, fin: Infinity, tx: 0, pieces: 0 };
    }
    const n = this.counted;
    for (; n.upTo < upTo; n.upTo++) {
      const e = this.events[n.upTo];
      if (lost(e)) n.pieces++;
      if (e.k !== 'p') continue;
      n.packets++;
      if (e.retransmit) n.retrans++;
      if (e.out) {
        if (e.plen) n.tx = Math.max(n.tx, e.rel.seq + e.plen - 1); // each byte counts once
        if (e.flags.includes('.')) n.ack = Math.max(n.ack, e.rel.ack);
      } else if (e.flags.includes('F')) {
        n.fin = e.rel.seq + e.plen;
      }
    }
    let whole = 0; // packets that turn out to be lost are noted late
    for (let i = 0; i < upTo; i++) if (this.events[i].lost) whole++;
    return { packets: n.packets, retrans: n.retrans, lost: n.pieces + whole, rx: n.ack - 1 - (n.ack > n.fin ? 1 : 0), tx: n.tx };
  }

  /** sizes are what the bounds are about, for tests. */
  sizes() {
    return { events: this.events.length, samples: this.samples.length, states: this.states.length, calls: this.calls.length,
      connections: this.connections.length, received: this.totals.received, gaps: this.totals.gaps, lastT: this.lastT };
  }
}

export const model = new Model();

/**
 * view is what the person looks at: a moment (null: live), the event selected, and whether the numbers are
 * relative. Changes are told to everybody.
 */
class View extends EventTarget {
  time = null; // seconds of the recording, or null
  selected = 0; // an event's seq
  relative = true;
  direction = null; // of the time-sequence graph: true out, false in, null the busier

  set(changes) {
    let changed = false;
    for (const [k, v] of Object.entries(changes)) {
      if (this[k] !== v) { this[k] = v; changed = true; }
    }
    if (changed) this.dispatchEvent(new CustomEvent('change', { detail: changes }));
  }

  /** shows reports whether a moment is past, for what is shown. */
  shows(t) { return this.time === null || t <= this.time + 1e-9; }
}

export const view = new View();

/** hover is the moment under the pointer, which all pictures of a connection mark. */
export const hover = new EventTarget();
hover.time = null;
hover.set = (t, from) => {
  if (hover.time === t) return;
  hover.time = t;
  hover.dispatchEvent(new CustomEvent('change', { detail: from }));
};
