// The guided tour: the life of one live request, from bind to the last state. Each step stops at the event
// that it tells of, and says its numbers.
import { $, bytes, count, duration, h, stamp, toast } from './util.js';
import { get } from './api.js';
import { model, view } from './model.js';
import { address, server } from './sockets.js';

const closes = new Set(['close', 'shutdown']);
const first = (fn) => model.events.find(fn);
const isPacket = (e, out, test) => e.k === 'p' && e.out === out && !e.retransmit && test(e.flags, e);
const at = (e) => `${stamp(e.t - model.t0)} s`;
const code = (s) => h('code', {}, s);

// The call that set up the listener that the story is about.
function setup(name) {
  const fd = server()?.fd;
  if (name === 'socket') return model.calls.findLast((c) => c.name === 'socket' && c.ret === fd);
  return model.calls.findLast((c) => c.name === name && !c.error && c.text.startsWith(`${name}(${fd},`));
}

// Where the calls were made before anyone looked, there is only the listener that came of them.
function listening() {
  const l = server();
  return l ? { ...l, k: 'listener', seq: 0 } : null;
}
const unseen = (l, what) => [['Before anyone was watching, the server had ', code(`fd ${l.fd}`), ` ${what}. It stands in the list as `, code(l.local), '.']];

const syn = () => first((e) => isPacket(e, false, (f) => f.includes('S') && !f.includes('.')));
const state = (to) => first((e) => e.k === 's' && e.to === to);
const call = (test) => first((e) => e.k === 'c' && test(e));
const decision = (name) => tour.packet?.decision?.filter((d) => name.includes(d.step)) ?? [];
const list = (steps) => h('ul', { class: 'mono-list' }, steps.map((d) => h('li', {}, d.text)));

// The steps: where the page must be, the event that the step is about (or nothing yet), what is waited for,
// what is said of it, and what it is about on the page.
const steps = [
  { title: 'An address for a program', page: '#/', find: () => setup('bind') ?? listening(), wait: 'the server to bind its socket', spot: '#listeners',
    say: (e) => e.k === 'listener' ? unseen(e, 'bound to an address and a port: packets for them belong to that descriptor. A second program that asks for the same gets EADDRINUSE') : [setup('socket') ? ['The server asked for a socket: ', code(setup('socket').text), '. The number it got is its file descriptor.'] : null,
      ['Then ', code(e.text), ' said: packets for this address and port belong to that descriptor. A second program that asks for the same gets EADDRINUSE.']] },
  { title: 'Listening', page: '#/', find: () => setup('listen') ?? listening(), wait: 'the server to listen', spot: '#listeners',
    say: (e) => [...(e.k === 'listener' ? unseen(e, `listening: up to ${count(e.backlog)} connections may wait until the program takes them`) : [['With ', code(e.text), ' connections may come: up to that many wait until the program takes them.']]),
      ['Now send a request. In a terminal: ', code(`curl ${address()}`), model.info?.transfer ? ', or start a download with the button in “The link”.' : '.']] },
  { title: 'A SYN arrives', find: syn, wait: () => ['a request: ', code(`curl ${address()}`)], spot: '#ladder-card',
    say: (e) => [[`A client at ${model.connection()?.remote} wants a connection. Its SYN carries the sequence number ${e.seqno} from which it will count its bytes, drawn at random`, ...(e.opts ? [', and what it can do: ', code(e.opts)] : []), '.'],
      [`It offers a window of ${count(e.win ?? e.rwin)} bytes: as much may be on its way to it unacknowledged.`]] },
  { title: 'Is this address ours?', find: syn, packet: syn, wait: 'the SYN', spot: '#chain', open: true,
    say: () => [['The stack asks its rules in order, and each names a table. The table “local” is asked first:'], list(decision(['rule', 'table', 'route'])),
      ['A route of type local means: deliver here. Without one the packet would be forwarded, or dropped.']] },
  { title: 'Whose packet is it?', find: syn, packet: syn, wait: 'the SYN', spot: '#chain', open: true,
    say: () => [['The socket lookup tries the exact 4-tuple first, an established connection. There is none yet, so the listener on this address and port gets the SYN:'], list(decision(['socket']))] },
  { title: 'SYN-ACK', find: () => first((e) => isPacket(e, true, (f) => f.includes('S') && f.includes('.'))), wait: 'the answer', spot: '#ladder-card',
    say: (e) => [[`${duration(e.t - (syn()?.t ?? e.t))} later the stack answers. It acknowledges the client’s SYN, which counts as one byte, and sends a sequence number of its own, ${e.seqno}.`],
      ['The new connection is in SYN-RECEIVED: the application does not know of it yet.']] },
  { title: 'ESTABLISHED', find: () => state('ESTABLISHED'), wait: 'the third segment of the handshake', spot: '#states-card',
    say: (e) => [[`The client’s ACK arrived at ${at(e)}. Both sides now know both sequence numbers, and the connection waits in the listener’s queue.`]] },
  { title: 'accept', find: () => call((c) => c.name.startsWith('accept')) ?? model.calls.find((c) => c.name.startsWith('accept') && c.t >= model.t0 && c.ret === model.connection()?.fd), wait: 'the application to accept', spot: '#ladder-card',
    say: (e) => [[code(e.text)], [`A new descriptor, ${e.ret}, stands for this one connection. The listener goes on listening.`]] },
  { title: 'The request is read', find: () => call((c) => /^(read|recv)/.test(c.name) && c.ret > 0), wait: 'data from the client', spot: '#ladder-card',
    say: (e) => { const d = first((p) => isPacket(p, false, (f, x) => x.plen > 0));
      return [d ? [`A segment brought ${count(d.plen)} bytes, ${count(d.rel?.seq ?? 0)} to ${count((d.rel?.seq ?? 0) + d.plen)} of the client’s stream.`] : null, ['The application read them with ', code(e.text), '.']]; } },
  { title: 'The answer is written', find: () => call((c) => /^(write|send)/.test(c.name) && c.ret > 0), wait: 'the application to write', spot: '#ladder-card',
    say: (e) => { const d = first((p) => isPacket(p, true, (f, x) => x.plen > 0));
      return [[code(e.text)], d ? [`The stack cuts the bytes into segments, looks up the route back, and sends: the first carries ${count(d.plen)} bytes.`] : ['From here the stack takes over.'],
        ['Each segment is kept until the client has acknowledged it. If it were lost, it would be sent again.']]; } },
  { title: 'FIN', find: () => first((e) => e.k === 'p' && e.flags.includes('F')), wait: 'one side to close', spot: '#ladder-card',
    say: (e) => [[e.out ? 'We closed first' : 'The client has nothing more to send', `: its last segment has the FIN flag, at ${at(e)}. It takes a sequence number too, so it is acknowledged like data.`],
      [e.out ? 'The connection is in FIN-WAIT-1 until then.' : 'Our side is in CLOSE-WAIT: it may still send.']] },
  { title: 'close', find: () => call((c) => closes.has(c.name)) ?? state('LAST-ACK') ?? state('FIN-WAIT-1'), wait: 'our application to close', spot: '#ladder-card',
    say: (e) => [e.k === 'c' ? ['The application let go of its descriptor: ', code(e.text), '. The number may be used again at once.'] : [`Our side closed at ${at(e)}.`], ['The stack sends a FIN of its own, and finishes without the application.']] },
  { title: 'The end', find: () => state('TIME-WAIT') ?? state('CLOSED'), wait: 'the last acknowledgement', spot: '#states-card',
    say: (e) => [e.to === 'TIME-WAIT'
      ? ['We closed first, so TIME-WAIT is ours: for twice the longest life of a segment this 4-tuple is kept, so that a late segment cannot be taken for one of a new connection.']
      : state('LAST-ACK')
        ? ['The client closed first, so TIME-WAIT is on its side. Ours went through LAST-ACK, and is gone with the client’s last ACK: nothing is left behind.']
        : [`The connection was ended without a farewell, from ${e.from}.`],
    summary()] },
];

function summary() {
  const c = model.connection();
  return c && [`In ${duration((c.closed ?? model.lastT) - c.opened)}: ${count(c.packets)} packets, ${bytes(c.rx)} received and ${bytes(c.tx)} sent, ${c.retrans ? `${count(c.retrans)} of them again` : 'none of them again'}.`];
}

class Tour {
  constructor() { this.at = -1; }

  get running() { return this.at >= 0; }

  init({ openPacket, closePacket }) {
    this.box = $('tour');
    this.openPacket = openPacket;
    this.closePacket = closePacket;
    const look = () => { if (this.running && !this.shown) this.#look(); };
    for (const what of ['batch', 'calls', 'overview']) model.addEventListener(what, look);
    model.addEventListener('connections', () => { this.#adopt(); look(); });
    this.box.addEventListener('keydown', (e) => { if (e.key === 'Escape') { e.stopPropagation(); this.stop(); } });
  }

  start() {
    this.from = document.activeElement;
    this.since = model.now();
    this.chosen = 0;
    this.packet = null;
    this.first = 0;
    if (model.info?.mode === 'view') { // what was before the first connection is not in a recording
      const c = model.connections.find((x) => x.role === 'server');
      if (!c) { toast('This recording has no request to tell of.'); return; }
      this.first = 2;
      this.chosen = c.id;
    }
    this.go(this.first);
    this.box.hidden = false;
    this.box.querySelector('button.primary, button')?.focus();
  }

  stop() {
    if (!this.running) return;
    this.at = -1;
    this.box.hidden = true;
    this.#spot(null);
    view.set({ time: null });
    this.from?.focus?.({ preventScroll: true });
  }

  go(n) {
    if (n >= steps.length) { this.stop(); return; }
    this.at = Math.max(this.first, n);
    this.shown = false;
    const step = steps[this.at];
    if (step.page && location.hash !== step.page && this.at < 2) location.hash = step.page;
    if (!step.open) this.closePacket();
    this.#look();
  }

  /** use takes a connection that was already there. */
  use(id) {
    this.chosen = id;
    location.hash = `#/conn/${id}`;
    this.#look();
  }

  // adopt follows the first connection that begins after the tour did.
  #adopt() {
    if (!this.running || this.chosen || this.at < 1) return;
    const c = model.connections.filter((x) => x.role === 'server' && x.opened >= this.since).sort((a, b) => a.opened - b.opened)[0];
    if (!c) return;
    this.chosen = c.id;
    if (this.at >= 2) location.hash = `#/conn/${c.id}`;
  }

  async #look() {
    const step = steps[this.at], n = this.at;
    if (n >= 2) {
      this.#adopt();
      if (!this.chosen) { this.#write(step, null); return; }
      if (model.id !== this.chosen) location.hash = `#/conn/${this.chosen}`;
    }
    const e = step.find();
    if (!e) { this.#write(step, null); return; }
    this.shown = true;
    if (n >= 2) view.set({ time: e.t, selected: e.seq });
    if (step.packet) {
      if (this.packet?.seq !== e.seq) this.packet = await get(`api/packet/${e.seq}`).catch(() => null);
      await this.openPacket(e);
      if (this.at !== n) return;
    }
    this.#write(step, e);
  }

  #write(step, e) {
    const wait = typeof step.wait === 'function' ? step.wait() : [step.wait];
    const recent = !e && this.at >= 2 && !this.chosen && model.connections.filter((c) => c.role === 'server').at(-1);
    const key = `${this.at} ${e?.seq} ${recent?.id} ${wait.join?.('')}`;
    if (key === this.key && !this.box.hidden) return;
    this.key = key;
    const had = this.box.contains(document.activeElement);
    const words = e ? step.say(e).filter(Boolean).map((p) => (p instanceof Node ? p : h('p', {}, p))) : [h('p', { class: 'waiting' }, 'Waiting for ', wait, '.')];
    this.box.replaceChildren(
      h('header', {}, h('p', { class: 'progress' }, `${this.at + 1} of ${steps.length}`), h('h2', { id: 'tour-title' }, step.title),
        h('button', { type: 'button', class: 'quiet', 'aria-label': 'End the tour', onclick: () => this.stop() }, '✕')),
      h('div', { class: 'tour-text', 'aria-live': 'polite' }, words),
      h('div', { class: 'buttons' },
        h('button', { type: 'button', class: 'quiet', disabled: this.at === this.first, onclick: () => this.go(this.at - 1) }, 'Back'),
        recent && h('button', { type: 'button', onclick: () => this.use(recent.id) }, 'Take the last connection'),
        h('button', { type: 'button', class: 'primary', disabled: !e && !(this.at < 2), onclick: () => this.go(this.at + 1) }, this.at === steps.length - 1 ? 'Done' : 'Next')));
    if (had) this.box.querySelector('button.primary:not(:disabled), button')?.focus();
    this.box.dataset.side = this.at < 2 || step.open ? 'left' : 'right'; // where it hides least of what it tells of
    this.#spot(e ? step.spot : null);
  }

  #spot(selector) {
    document.querySelectorAll('.spot').forEach((el) => el.classList.remove('spot'));
    if (!selector) return;
    const el = document.querySelector(selector);
    const card = el?.closest('.card, .drawer') === el ? el : el?.closest('.card') ?? el;
    card?.classList.add('spot');
    card?.scrollIntoView({ block: innerWidth < 720 ? 'start' : 'nearest', behavior: matchMedia('(prefers-reduced-motion: reduce)').matches ? 'auto' : 'smooth' });
  }
}

export const tour = new Tour();
