// What a person can do to the link: netem's settings, rules for single packets, a transfer to watch.
import { h, once, text, toast } from './util.js';
import { change } from './api.js';
import { model } from './model.js';

// The sliders: what netem calls it, the values they stop at, and how a value is said.
const sliders = [
  { id: 'delay', name: 'Delay', steps: [0, 1, 2, 5, 10, 20, 30, 50, 75, 100, 150, 200, 300, 500, 1000], say: (v) => `${v}ms` },
  { id: 'jitter', name: 'Jitter', steps: [0, 1, 2, 5, 10, 20, 50, 100, 200], say: (v) => `${v}ms` },
  { id: 'loss', name: 'Loss', steps: [0, 0.1, 0.5, 1, 2, 3, 5, 10, 20, 30, 50], say: (v) => `${v}%` },
  { id: 'duplicate', name: 'Duplicate', steps: [0, 0.1, 0.5, 1, 2, 5, 10, 25], say: (v) => `${v}%` },
  { id: 'corrupt', name: 'Corrupt', steps: [0, 0.1, 0.5, 1, 2, 5, 10], say: (v) => `${v}%` },
  { id: 'reorder', name: 'Reorder', steps: [0, 1, 5, 10, 25, 50], say: (v) => `${v}%` },
  { id: 'rate', name: 'Rate', steps: [0, 64e3, 256e3, 512e3, 1e6, 2e6, 5e6, 10e6, 20e6, 50e6, 100e6, 1e9], say: rateWords },
];

function rateWords(v) {
  if (!v) return 'full';
  return v >= 1e9 ? `${v / 1e9}gbit` : v >= 1e6 ? `${v / 1e6}mbit` : `${v / 1e3}kbit`;
}

// Links as they are met with, one way.
const presets = {
  'LAN': { delay: 1 },
  'home, DSL': { delay: 20, jitter: 2, rate: 20e6 },
  'mobile': { delay: 50, jitter: 20, loss: 1, rate: 5e6 },
  'bad Wi-Fi': { delay: 10, jitter: 10, loss: 5, rate: 10e6 },
  'satellite': { delay: 300, rate: 10e6 },
};

// The settings with which netem's words begin, in its order; what a slider sets is one of them, or a part.
const keywords = ['delay', 'loss', 'duplicate', 'corrupt', 'reorder', 'rate', 'slot', 'limit', 'seed'];

/** words is a setting as tc(8) reads it, by the sliders; empty if they stand at nothing. */
function words(keyword, v) {
  switch (keyword) {
    case 'delay': // netem has jitter and reordering only beside a delay
      return v.delay || v.jitter || (v.reorder && !v.rate) ? `delay ${v.delay || 1}ms${v.jitter ? ` ${v.jitter}ms` : ''}` : '';
    case 'rate':
      return v.rate ? `rate ${rateWords(v.rate)}` : '';
    default:
      return v[keyword] ? `${keyword} ${v[keyword]}%` : '';
  }
}

/** settings takes words of netem apart, by the keyword with which each setting begins. */
export function settings(spec) {
  const of = new Map();
  let last = '';
  for (const w of spec.trim().split(/\s+/).filter(Boolean)) {
    if (keywords.includes(w)) of.set(last = w, w);
    else if (last) of.set(last, `${of.get(last)} ${w}`);
  }
  return of;
}

const units = { us: 1e-3, usec: 1e-3, usecs: 1e-3, ms: 1, msec: 1, msecs: 1, s: 1e3, sec: 1e3, secs: 1e3 };
const bits = { bit: 1, kbit: 1e3, mbit: 1e6, gbit: 1e9 };

/** values are what the sliders would say of settings: the nearest that they can. */
export function values(of) {
  const ms = (w) => { const m = w?.match(/^([\d.]+)([a-z]+)$/); return m && units[m[2]] ? m[1] * units[m[2]] : 0; };
  const [, delay, jitter] = of.get('delay')?.split(' ') ?? [];
  const v = { delay: ms(delay), jitter: ms(jitter) };
  for (const k of ['loss', 'duplicate', 'corrupt', 'reorder']) v[k] = Number(of.get(k)?.match(/^\w+ (?:random )?([\d.]+)%/)?.[1] ?? 0);
  const rate = of.get('rate')?.match(/^rate ([\d.]+)([a-z]+)/);
  v.rate = rate ? rate[1] * (bits[rate[2]] ?? 0) : 0;
  return v;
}

/** Controls is what is done to the link: one, shown on whichever view is open, and filled from the link. */
export class Controls {
  constructor() {
    this.box = h('div', { class: 'controls' });
    this.dir = 'both';
    this.edited = false; // the form says something else than the link
    this.settings = new Map();
    this.pending = new Set(); // rules of ours that are to go once they have hit
    this.#build();
    this.draw = once(() => this.#draw());
    model.addEventListener('overview', this.draw);
    model.addEventListener('info', this.draw);
    this.draw();
  }

  /** place shows the controls in a card; of a connection, with what is done to it alone. */
  place(card, ofConnection) {
    card.append(this.box);
    this.ofConnection = ofConnection;
    this.#draw();
  }

  #build() {
    const id = (s) => `link-${s}`;
    this.inputs = new Map();
    this.state = h('div', { class: 'link-state' });
    this.why = h('p', { class: 'empty', hidden: true });
    this.text = h('input', { id: id('words'), type: 'text', class: 'mono words', autocomplete: 'off', spellcheck: 'false', placeholder: 'nothing: packets pass untouched', oninput: () => this.#typed() });
    this.command = h('code', { class: 'command' });
    this.error = h('p', { class: 'error', role: 'alert', hidden: true });
    const rows = sliders.map((d) => {
      const out = h('output', { for: id(d.id) });
      const input = h('input', { id: id(d.id), type: 'range', min: 0, max: d.steps.length - 1, step: 1, value: 0, oninput: () => this.#slid(d.id) });
      this.inputs.set(d.id, { d, input, out });
      return h('div', { class: 'slider' }, h('label', { for: id(d.id) }, d.name), input, out);
    });
    this.dirs = ['in', 'out', 'both'].map((d) => h('button', { type: 'button', 'aria-pressed': String(d === this.dir), 'data-dir': d, onclick: () => this.#way(d) }, d));
    const preset = h('select', { 'aria-label': 'A link to start from', onchange: (e) => { this.#set(presets[e.target.value] ?? {}); e.target.value = ''; } },
      h('option', { value: '' }, 'like…'), Object.keys(presets).map((p) => h('option', {}, p)));
    this.form = h('form', { class: 'netem', onsubmit: (e) => { e.preventDefault(); this.#apply(this.text.value.trim()); } },
      h('div', { class: 'row' }, h('div', { class: 'segmented', role: 'group', 'aria-label': 'Direction that is impaired' }, this.dirs), preset),
      h('div', { class: 'sliders' }, rows),
      h('label', { class: 'visually-hidden', for: id('words') }, 'The settings in tc’s words'), this.text, this.command, this.error,
      h('div', { class: 'row' }, h('button', { type: 'submit', class: 'primary' }, 'Apply'), h('button', { type: 'button', onclick: () => { this.#set({}); this.#apply(''); } }, 'Clear')));
    this.rules = h('ul', { class: 'rules' });
    this.lose = h('div', { class: 'row' },
      h('button', { type: 'button', class: 'lose', onclick: () => this.#lose('out') }, '✕ Lose the next data segment sent'),
      h('button', { type: 'button', class: 'lose', onclick: () => this.#lose('in') }, '… received'));
    this.size = h('select', { 'aria-label': 'How much' }, [['100 kB', 1e5], ['1 MB', 1e6], ['10 MB', 1e7], ['100 MB', 1e8]].map(([t, v]) => h('option', { value: v, selected: v === 1e6 }, t)));
    this.transfer = h('div', { class: 'row' }, h('button', { type: 'button', onclick: () => this.#transfer('down') }, 'Start a download'), this.size,
      h('button', { type: 'button', onclick: () => this.#transfer('up') }, 'upload'));
    this.box.append(h('header', {}, h('h2', {}, 'The link')), this.state, this.why, this.lose, this.transfer, this.form, this.rules);
    this.#show('');
  }

  // way chooses a direction, and what the link does there; both say what the form says.
  #way(d) {
    this.dir = d;
    this.dirs.forEach((b) => b.setAttribute('aria-pressed', String(b.dataset.dir === d)));
    const n = model.overview?.netem;
    if (n && d !== 'both' && !this.edited) this.#show(n[d] ?? '');
    else this.#command();
  }

  // show fills the form from words; what a slider cannot say stays in the words.
  #show(spec) {
    this.settings = settings(spec);
    this.text.value = spec;
    this.#slide(values(this.settings));
  }

  // slide moves the sliders to the nearest stops below.
  #slide(v) {
    for (const [id, { d, input, out }] of this.inputs) {
      input.value = Math.max(0, d.steps.findLastIndex((s) => s <= (v[id] ?? 0)));
      const exact = v[id] && !d.steps.includes(v[id]) ? `≈ ${d.say(d.steps[input.value])}` : d.say(d.steps[input.value]);
      text(out, exact);
      input.setAttribute('aria-valuetext', exact);
    }
    this.#command();
  }

  // slid takes the setting of a slider that was moved from the sliders, and leaves all others.
  #slid(id) {
    this.edited = true;
    const now = Object.fromEntries([...this.inputs].map(([i, { d, input }]) => [i, d.steps[input.value]]));
    const { d, out, input } = this.inputs.get(id);
    text(out, d.say(now[id]));
    input.setAttribute('aria-valuetext', d.say(now[id]));
    for (const k of new Set([id === 'jitter' ? 'delay' : id, ...(id === 'reorder' || id === 'rate' ? ['delay'] : [])])) {
      const w = words(k, now);
      if (w) this.settings.set(k, w); else this.settings.delete(k);
    }
    this.#write();
  }

  // write makes the words of the settings.
  #write() {
    this.text.value = keywords.filter((k) => this.settings.has(k)).map((k) => this.settings.get(k)).join(' ');
    this.#command();
  }

  #typed() {
    this.edited = true;
    this.settings = settings(this.text.value);
    this.#slide(values(this.settings));
  }

  // set is a preset.
  #set(v) {
    this.edited = true;
    this.settings = new Map(keywords.map((k) => [k, words(k, v)]).filter(([, w]) => w));
    this.#slide(v);
    this.#write();
  }

  #command() {
    const w = this.text.value.trim();
    text(this.command, w ? `catflap netem set ${this.dir} ${w}` : `catflap netem clear ${this.dir}`);
  }

  async #apply(spec) {
    this.error.hidden = true;
    await this.#try(async () => {
      if ((await change('POST', 'api/netem', { dir: this.dir, spec })) === undefined) return;
      this.edited = false;
      toast(spec ? `${this.dir}: ${spec}` : `${this.dir}: nothing is done to packets now`);
    });
  }

  async #try(fn) {
    try { await fn(); } catch (err) {
      const { place, expected } = err.body ?? {};
      text(this.error, [err.message, place !== undefined && place !== '' && `at ${place}`, expected && `expected ${expected}`, err.remedy].filter(Boolean).join('; '));
      this.error.hidden = false;
    }
  }

  // lose adds a rule that takes one segment of this connection, and notes to take the rule away afterwards.
  async #lose(way) {
    const c = model.connection();
    if (!c) return;
    const at = c.remote.match(/^\[?([^\]]*)\]?:(\d+)$/);
    await this.#try(async () => {
      const made = await change('POST', 'api/rules', { text: `drop tcp data 1 ${way} host ${at[1]} port ${at[2]}` });
      if (!made) return;
      this.pending.add(made.id);
      toast(`The next data segment that is ${way === 'out' ? 'sent' : 'received'} on this connection will be lost.`);
    });
  }

  async #transfer(dir) {
    await this.#try(async () => {
      const made = await change('POST', 'api/transfer', { bytes: Number(this.size.value), dir });
      if (!made) return;
      toast(`A transfer of ${this.size.selectedOptions[0].textContent} begins.`);
      if (made.conn) location.hash = `#/conn/${made.conn}`;
    });
  }

  #draw() {
    const info = model.info, n = model.overview?.netem;
    const can = !!info?.controls && !!n;
    this.form.hidden = !can;
    this.lose.hidden = !can || !this.ofConnection;
    this.transfer.hidden = !info?.controls || !info?.transfer;
    this.why.hidden = can;
    text(this.why, !info ? '' : info.mode === 'view' ? 'A recording: what happened has happened.' : !info.controls ? 'Controls are off.' : 'This link cannot be impaired.');
    const stats = (s) => Object.entries(s ?? {}).filter(([, v]) => v).map(([k, v]) => `${v} ${k}`).join(', ');
    const key = JSON.stringify(n);
    if (key === this.key) return;
    this.key = key;
    this.#fill(n);
    this.state.replaceChildren(...(n ? ['in', 'out'].map((d) => h('p', {}, h('b', {}, d), ' ', h('span', { class: n[d] ? 'mono on' : 'hint', title: n[d] || null }, n[d]?.replace(/ (limit|seed) \S+/g, '') || 'untouched'), n.stats?.[d] ? h('span', { class: 'hint' }, ` ${stats(n.stats[d])}`) : '')) : []));
    this.rules.replaceChildren(...(n?.rules ?? []).map((r) => h('li', {}, h('span', { class: 'mono' }, r.text), h('span', { class: 'hint num' }, `${r.hits} hits`),
      can && h('button', { type: 'button', class: 'quiet', 'aria-label': `Remove the rule ${r.text}`, onclick: () => this.#remove(r.id) }, '✕'))));
    for (const r of n?.rules ?? []) {
      if (this.pending.has(r.id) && r.hits > 0) this.#remove(r.id);
    }
  }

  // fill has the form say what the link does, unless somebody is changing it: of two directions that differ, one of them.
  #fill(n) {
    const now = n ? `${n.in}|${n.out}` : '';
    if (!n || now === this.filled || this.edited) return;
    this.filled = now;
    if (n.in !== n.out && this.dir === 'both') this.#way(n.out ? 'out' : 'in');
    this.#show(n[this.dir === 'both' ? 'out' : this.dir] ?? '');
  }

  async #remove(id) {
    this.pending.delete(id);
    await this.#try(() => change('DELETE', `api/rules/${id}`));
  }
}
