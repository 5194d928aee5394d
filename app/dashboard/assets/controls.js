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

/** words are the settings as tc(8) reads them. */
export function words(v) {
  const w = [];
  // netem has jitter and reordering only beside a delay.
  if (v.delay || v.jitter || (v.reorder && !v.rate)) w.push(`delay ${v.delay || 1}ms${v.jitter ? ` ${v.jitter}ms` : ''}`);
  for (const k of ['loss', 'duplicate', 'corrupt', 'reorder']) if (v[k]) w.push(`${k} ${v[k]}%`);
  if (v.rate) w.push(`rate ${rateWords(v.rate)}`);
  return w.join(' ');
}

let serial = 0;

/** Controls fills a card; of a connection, with what is done to it alone. */
export class Controls {
  constructor(box, { ofConnection = false } = {}) {
    this.box = box;
    this.ofConnection = ofConnection;
    this.n = ++serial;
    this.values = {};
    this.dir = 'both';
    this.pending = new Set(); // rules of ours that are to go once they have hit
    this.#build();
    this.draw = once(() => this.#draw());
    model.addEventListener('overview', this.draw);
    model.addEventListener('info', this.draw);
    this.draw();
  }

  #build() {
    const id = (s) => `link-${this.n}-${s}`;
    this.inputs = new Map();
    this.state = h('div', { class: 'link-state' });
    this.why = h('p', { class: 'empty', hidden: true });
    this.text = h('input', { id: id('words'), type: 'text', class: 'mono words', autocomplete: 'off', spellcheck: 'false', placeholder: 'nothing: packets pass untouched', oninput: () => this.#command() });
    this.command = h('code', { class: 'command' });
    this.error = h('p', { class: 'error', role: 'alert', hidden: true });
    const rows = sliders.map((d) => {
      const out = h('output', { for: id(d.id) });
      const input = h('input', { id: id(d.id), type: 'range', min: 0, max: d.steps.length - 1, step: 1, value: 0, oninput: () => this.#slid() });
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
    this.box.append(h('header', {}, h('h2', {}, 'The link')), this.state, this.why, this.ofConnection ? this.lose : '', this.transfer, this.form, this.rules);
    this.#slid();
  }

  #way(d) {
    this.dir = d;
    this.dirs.forEach((b) => b.setAttribute('aria-pressed', String(b.dataset.dir === d)));
    this.#command();
  }

  #slid() {
    for (const [id, { d, input, out }] of this.inputs) {
      const v = d.steps[input.value];
      this.values[id] = v;
      text(out, d.say(v));
      input.setAttribute('aria-valuetext', d.say(v));
    }
    this.text.value = words(this.values);
    this.#command();
  }

  #set(values) {
    for (const [id, { d, input }] of this.inputs) {
      const v = values[id] ?? 0;
      // The nearest stop below: a preset may lie between two.
      input.value = Math.max(0, d.steps.findLastIndex((s) => s <= v));
    }
    this.#slid();
  }

  #command() {
    const w = this.text.value.trim();
    text(this.command, w ? `catflap netem set ${this.dir} ${w}` : `catflap netem clear ${this.dir}`);
  }

  async #apply(spec) {
    this.error.hidden = true;
    await this.#try(async () => {
      if ((await change('POST', 'api/netem', { dir: this.dir, spec })) === undefined) return;
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
    this.lose.hidden = !can;
    this.transfer.hidden = !info?.controls || !info?.transfer;
    this.why.hidden = can;
    text(this.why, !info ? '' : info.mode === 'view' ? 'A recording: what happened has happened.' : !info.controls ? 'Controls are off.' : 'This link cannot be impaired.');
    const stats = (s) => Object.entries(s ?? {}).filter(([, v]) => v).map(([k, v]) => `${v} ${k}`).join(', ');
    const key = JSON.stringify(n);
    if (key === this.key) return;
    this.key = key;
    this.state.replaceChildren(...(n ? ['in', 'out'].map((d) => h('p', {}, h('b', {}, d), ' ', h('span', { class: n[d] ? 'mono on' : 'hint', title: n[d] || null }, n[d]?.replace(/ (limit|seed) \S+/g, '') || 'untouched'), n.stats?.[d] ? h('span', { class: 'hint' }, ` ${stats(n.stats[d])}`) : '')) : []));
    this.rules.replaceChildren(...(n?.rules ?? []).map((r) => h('li', {}, h('span', { class: 'mono' }, r.text), h('span', { class: 'hint num' }, `${r.hits} hits`),
      can && h('button', { type: 'button', class: 'quiet', 'aria-label': `Remove the rule ${r.text}`, onclick: () => this.#remove(r.id) }, '✕'))));
    for (const r of n?.rules ?? []) {
      if (this.pending.has(r.id) && r.hits > 0) this.#remove(r.id);
    }
  }

  async #remove(id) {
    this.pending.delete(id);
    await this.#try(() => change('DELETE', `api/rules/${id}`));
  }
}
