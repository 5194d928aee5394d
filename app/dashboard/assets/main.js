// The page: which view is shown, what is heard, and what keys and buttons do.
import { $, bytes, clamp, colour, count, duration, every, h, once, rate, text, themeChanged, toast } from './util.js';
import { Stream, get, onTokenNeeded, setToken, tryToken } from './api.js';
import { lost, model, view } from './model.js';
import { Path, drawListeners, drawRoutes } from './overview.js';
import { Sockets } from './sockets.js';
import { Ladder } from './ladder.js';
import { TimeSeq, direction, legend, signs } from './timeseq.js';
import { Cwnd, RTT, cwndSigns, rttSigns } from './strips.js';
import { States } from './states.js';
import { PacketPanel } from './packet.js';
import { Controls } from './controls.js';
import { tour } from './tour.js';
import { span } from './plot.js';
import { saveSVG } from './svg.js';

// Views.
const path = new Path($('path'));
const sockets = new Sockets($('sockets'), $('sockets-count'));
const panel = new PacketPanel($('packet'));
export const ladder = new Ladder($('ladder'), { onOpen: (e) => panel.open(e), countOut: $('ladder-count'), follow: $('follow') });
const timeseq = new TimeSeq($('timeseq'), { onMoment: (t) => moment(t) });
new Cwnd($('cwnd'));
new RTT($('rtt'));
const states = new States($('states'));
const controls = new Controls();
$('timeseq-legend').append(...legend(signs));
$('cwnd-legend').append(...legend(cwndSigns));
$('rtt-legend').append(...legend(rttSigns));
tour.init({ openPacket: (e) => panel.open(e), closePacket: () => { if (!$('packet').hidden) panel.close(); } });

// The stream.
const stream = new Stream((name, data) => model.take(name, data), status);
let connected = false, retry = 0;

function status({ open, gone, reason, retryAt }) {
  if (gone) { lostTrack(gone); return; }
  connected = open;
  clearInterval(retry);
  const banner = $('banner');
  banner.hidden = open;
  document.documentElement.classList.toggle('disconnected', !open);
  if (open) { if (!model.info) learn(); pulse(); return; }
  const wait = h('span', {});
  const write = () => text(wait, `Trying again in ${Math.max(0, Math.ceil((retryAt - Date.now()) / 1000))} s.`);
  banner.replaceChildren(h('b', {}, 'Disconnected: '), `${reason}. What is shown is as of then. `, wait, ' ', h('button', { type: 'button', onclick: () => stream.again() }, 'Try now'));
  write();
  retry = setInterval(write, 500);
  pulse();
}

// lostTrack says that a connection is not kept, where its pictures would be.
function lostTrack(id) {
  if (model.id !== id) return;
  text($('conn-title'), `connection ${id}`);
  $('conn-facts').replaceChildren(h('div', {}, h('dt', {}, 'It is not kept (any more): newer ones took its place, or catflap was started anew.'), h('dd', {}, h('a', { href: '#/' }, 'All sockets'))));
  $('connection').classList.add('gone');
  $('scrubber').hidden = true;
}

async function learn() {
  try { model.info = await get('api/info'); } catch { return; } // the stream says what is wrong
  const { info } = model;
  text($('mode'), info.mode);
  $('mode').dataset.mode = info.mode;
  text($('name'), info.mode === 'view' ? info.name : [info.stack?.dev ?? info.name, ...(info.stack?.addrs ?? [])].join(' · '));
  document.title = `${info.name ?? ''} · catflap`;
  document.documentElement.dataset.mode = info.mode;
  if (info.mode === 'view') $('show-history').click(); // nothing is open in a recording
  $('token-button').hidden = !info.controls;
  model.tell('info');
}

const pulse = once(() => {
  const el = $('pulse'), o = model.overview, b = model.previous;
  el.dataset.state = !connected ? 'off' : model.info?.mode === 'view' ? 'view' : 'on';
  if (!connected) { text($('pulse-text'), 'disconnected'); return; }
  if (model.info?.mode === 'view') { text($('pulse-text'), 'recording'); return; }
  const t = o?.path?.find((p) => p.id === 'tun'), was = b?.path?.find((p) => p.id === 'tun'), dt = b ? o.t - b.t : 0;
  const r = t && was && dt > 0 ? ((t.in ?? 0) + (t.out ?? 0) - (was.in ?? 0) - (was.out ?? 0)) / dt : 0;
  text($('pulse-text'), `${rate(Math.max(0, r)).replace('/s', ' packets/s')}${o?.lost ? ` · ${count(o.lost)} events lost` : ''}`);
});
model.addEventListener('overview', () => { pulse(); side(); });
const side = once(() => {
  if (model.id) return;
  drawRoutes($('routes'));
  drawListeners($('listeners'));
});

// Where we are: #/ or #/conn/ID.
function route() {
  const conn = Number(location.hash.match(/^#\/conn\/(\d+)$/)?.[1] ?? 0);
  if (conn === model.id && route.done) return;
  const changed = route.done;
  route.done = true;
  view.set({ time: null, selected: 0, direction: null });
  panel.close();
  model.choose(conn);
  $('overview').hidden = conn !== 0;
  $('connection').hidden = conn === 0;
  $('connection').classList.remove('gone');
  $('conn-facts').replaceChildren();
  header.key = header.limit = undefined;
  controls.place($(conn ? 'link-connection' : 'link-overview'), conn !== 0);
  $('scrubber').hidden = conn === 0;
  document.body.classList.toggle('with-scrubber', conn !== 0);
  $('capture').href = `api/capture?conn=${conn}`;
  stream.ask(conn);
  header();
  side();
  if (changed) { scrollTo(0, 0); $('main').focus({ preventScroll: true }); }
}
addEventListener('hashchange', () => { if (location.hash === '' || location.hash.startsWith('#/')) route(); });

// The connection's header.
const limits = [['application', 'the application has written no more'], ['receive window', 'the other side offers no more room'], ['congestion window', 'the path, as the sender believes, holds no more']];
const header = every(100, () => {
  if (!model.id) return;
  const c = model.connection(), time = view.time ?? model.now(), m = view.time === null ? model.samples.at(-1) : model.sampleAt(view.time);
  text($('conn-title'), c ? `${c.local} ${c.role === 'client' ? '→' : '←'} ${c.remote}` : `connection ${model.id}`);
  const state = view.time === null ? c?.state : model.states.findLast((e) => view.shows(e.t))?.to ?? model.states[0]?.from ?? c?.state;
  const pill = $('conn-state');
  text(pill, state ?? '');
  pill.className = `state-pill ${String(state ?? '').toLowerCase()}`;
  if (!c) return;
  const n = model.counts(view.time), or = (v, say = count) => (n ? say(v) : '–');
  const facts = [
    ['we are', c.role], ['fd', c.fd >= 0 ? c.fd : '–'],
    [c.closed === null ? 'age' : 'lasted', duration((c.closed === null ? Math.max(time, c.opened) : c.closed) - c.opened)],
    ['received', or(n?.rx, bytes)], ['sent', or(n?.tx, bytes)], ['packets', or(n?.packets)],
    ['sent again', n?.retrans ? h('span', { class: 'bad' }, `⟲ ${count(n.retrans)}`) : or(0)],
    ['lost', n?.lost ? h('span', { class: 'bad' }, `✕ ${count(n.lost)}`) : or(0)],
    ['RTT', m?.srtt ? `${duration(m.srtt)} ± ${duration(m.rttvar)}` : '–'], ['RTO', m?.rto ? duration(m.rto) : '–'],
    ['cwnd', m ? `${count(m.cwnd)} × ${count(m.mss)} B` : '–'], ['in flight', m ? bytes(m.inflight) : '–'], ['peer’s window', m ? bytes(m.snd_wnd) : '–'],
  ];
  const key = facts.map(([k, v]) => k + (v.textContent ?? v)).join();
  if (header.key !== key) {
    header.key = key;
    $('conn-facts').replaceChildren(...facts.map(([k, v]) => h('div', {}, h('dt', {}, k), h('dd', {}, v))));
  }
  $('conn-limit').hidden = !m || (c.closed !== null && view.time === null);
  const limit = m?.limit ?? '', what = limits.find(([l]) => l === limit);
  if (header.limit !== limit) {
    header.limit = limit;
    $('conn-limit').replaceChildren(h('span', { class: 'hint' }, 'limited by'), ...limits.map(([l]) => h('span', { class: `chip${l === limit ? ' now' : ''}`, 'aria-current': l === limit ? 'true' : null }, l === limit ? `● ${l}` : l)),
      h('span', { class: 'hint why' }, what ? what[1] : limit || 'nothing: all that was written has been sent and acknowledged'));
  }
  $('dir-out').setAttribute('aria-pressed', String(direction()));
  $('dir-in').setAttribute('aria-pressed', String(!direction()));
});
for (const what of ['batch', 'connections', 'overview', 'reset']) model.addEventListener(what, header);
view.addEventListener('change', header);

// Time: live, or a moment.
const told = (e) => e.k === 'p' || e.k === 's' || e.k === 'c' || e.k === 't' || lost(e);

function moment(t) { view.set({ time: t }); }

function step(way) {
  const { events } = model;
  if (!events.length) return;
  const now = view.time ?? Infinity;
  // The selected event tells where among events of one moment we are.
  let i = view.selected && view.time !== null ? model.indexOf(view.selected) : -1;
  if (i < 0) i = way > 0 ? events.findLastIndex((e) => e.t <= now) : events.findIndex((e) => e.t > now);
  if (i < 0 && way < 0) i = events.length;
  for (i += way; i >= 0 && i < events.length; i += way) {
    if (told(events[i])) { view.set({ time: events[i].t, selected: events[i].seq }); return; }
  }
}

function pause() {
  if (view.time === null) moment(model.events.at(-1)?.t ?? model.lastT);
  else view.set({ time: null });
}

function live() {
  view.set({ time: null });
  $('follow').checked = true;
  ladder.draw();
}

const scrubber = once(() => {
  const first = model.events[0]?.t ?? 0, last = Math.max(model.events.at(-1)?.t ?? first, first + 1e-6);
  const scrub = $('scrub'), paused = view.time !== null;
  const at = paused ? clamp((view.time - first) / (last - first), 0, 1) : 1;
  if (document.activeElement !== scrub || !paused) scrub.value = Math.round(at * 1000);
  const later = paused ? model.events.length - model.events.findLastIndex((e) => e.t <= view.time) - 1 : 0;
  const words = paused ? `${(view.time - model.t0).toFixed(6)} s${later ? `, ${count(later)} later` : ''}` : typeof model.connection()?.closed === 'number' ? 'the end' : 'live';
  text($('scrub-time'), words);
  scrub.setAttribute('aria-valuetext', words);
  text($('pause'), paused ? 'Go on' : 'Pause');
  $('pause').setAttribute('aria-pressed', String(paused));
  $('go-live').disabled = !paused;
});
model.addEventListener('batch', (e) => { if (e.detail.reset) $('follow').checked = model.connection()?.closed === null; }); // what is over is read from its beginning
model.addEventListener('batch', scrubber);
model.addEventListener('reset', scrubber);
view.addEventListener('change', scrubber);
$('scrub').addEventListener('input', (e) => {
  const first = model.events[0]?.t ?? 0, last = model.events.at(-1)?.t ?? first;
  view.set({ time: e.target.value === '1000' ? null : first + (last - first) * e.target.value / 1000, selected: 0 });
});
$('pause').onclick = pause;
$('step-back').onclick = () => step(-1);
$('step-on').onclick = () => step(1);
$('go-live').onclick = live;

// Switches.
const press = (on, off) => { $(on).setAttribute('aria-pressed', 'true'); $(off).setAttribute('aria-pressed', 'false'); };
$('seq-rel').onclick = () => { press('seq-rel', 'seq-abs'); view.set({ relative: true }); };
$('seq-abs').onclick = () => { press('seq-abs', 'seq-rel'); view.set({ relative: false }); };
$('dir-out').onclick = () => { view.set({ direction: true }); };
$('dir-in').onclick = () => { view.set({ direction: false }); };
$('show-sockets').onclick = () => { press('show-sockets', 'show-history'); sockets.show(false); };
$('show-history').onclick = () => { press('show-history', 'show-sockets'); sockets.show(true); };
$('fold').onchange = (e) => ladder.setFold(e.target.checked);
$('filter').oninput = (e) => sockets.filter(e.target.value);
$('zoom-out').onclick = () => span.set(null, null);

// Pictures.
const slug = () => `catflap-${(model.connection()?.remote ?? 'overview').replace(/[^\w.]+/g, '-')}`;
$('path-export').onclick = () => saveSVG(path.picture(), 'catflap-path.svg', colour('card'));
$('export').onclick = () => $('export-dialog').showModal();
$('export-dialog').addEventListener('close', (e) => {
  const which = e.target.returnValue, of = { ladder, timeseq, states }[which];
  if (of) saveSVG(of.picture(), `${slug()}-${which}.svg`, colour('card'));
});

// Colours: as the system has them, light, or dark.
const themes = ['auto', 'light', 'dark'];
function theme(name) {
  document.documentElement.dataset.theme = name;
  text($('theme'), { auto: 'Auto', light: 'Light', dark: 'Dark' }[name]);
  $('theme').setAttribute('aria-label', `Colours: ${name === 'auto' ? 'as the system has them' : name}. Press for the next.`);
  try { localStorage.setItem('catflap-theme', name); } catch { /* it lasts as long as the page */ }
  themeChanged();
}
$('theme').onclick = () => theme(themes[(themes.indexOf(document.documentElement.dataset.theme) + 1) % themes.length]);
let saved = null;
try { saved = localStorage.getItem('catflap-theme'); } catch { /* no storage */ }
theme(themes.includes(saved) ? saved : 'auto');
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', themeChanged);

// The token: asked for by the button, and by the first change without one.
function askToken(problem) {
  return new Promise((done) => {
    const dialog = $('token-dialog'), form = $('token-form'), input = $('token-input'), error = $('token-error');
    error.hidden = !problem;
    error.textContent = problem;
    input.value = '';
    let given = '';
    const submit = async (e) => {
      e.preventDefault();
      const value = input.value.trim();
      try {
        await tryToken(value);
        given = value;
        dialog.close();
      } catch (err) {
        error.textContent = [err.message, err.remedy].filter(Boolean).join('; ');
        error.hidden = false;
        input.select();
      }
    };
    form.addEventListener('submit', submit);
    dialog.addEventListener('close', () => {
      form.removeEventListener('submit', submit);
      done(given);
    }, { once: true });
    dialog.showModal();
    input.focus();
  });
}
onTokenNeeded(askToken);
$('token-cancel').onclick = () => $('token-dialog').close();
$('token-button').onclick = async () => {
  const given = await askToken('');
  if (!given) return;
  setToken(given);
  toast('The token is right: controls are open in this tab.');
};

// Keys.
const keys = [
  ['?', 'this list', () => $('keys-dialog').showModal()],
  ['g', 'overview', () => { location.hash = '#/'; }],
  ['/', 'filter the table', () => $('filter').focus(), () => !model.id],
  ['Space', 'pause, go on', pause, () => model.id],
  ['←', 'one event back', () => step(-1), () => model.id],
  ['→', 'one event on', () => step(1), () => model.id],
  ['l', 'live', live, () => model.id],
  ['r', 'relative or absolute numbers', () => $(view.relative ? 'seq-abs' : 'seq-rel').click(), () => model.id],
  ['0', 'the whole time axis', () => span.set(null, null), () => model.id],
  ['+', 'zoom in', () => span.zoom(0.7), () => model.id],
  ['-', 'zoom out', () => span.zoom(1.4), () => model.id],
  ['s', 'save a picture', () => $('export-dialog').showModal(), () => model.id],
  ['t', 'guided tour', () => tour.start()],
  ['d', 'light, dark', () => $('theme').click()],
  ['Esc', 'close what is open', () => { if (!$('packet').hidden) panel.close(); else tour.stop(); }],
];
const names = { ' ': 'Space', ArrowLeft: '←', ArrowRight: '→', Escape: 'Esc', '=': '+' };
$('keys-list').append(...keys.map(([k, what]) => h('div', {}, h('dt', {}, h('kbd', {}, k)), h('dd', {}, what))));
addEventListener('keydown', (e) => {
  if (e.ctrlKey || e.metaKey || e.altKey || e.defaultPrevented || document.querySelector('dialog[open]')) return;
  const t = e.target;
  if (t.matches('input:not([type=checkbox], [type=range]), select, textarea')) { if (e.key === 'Escape') t.blur(); return; }
  if (t.matches('button, a, [type=checkbox], [type=range]') && [' ', 'Enter', 'ArrowLeft', 'ArrowRight'].includes(e.key)) return;
  const hit = keys.find(([k, , , when]) => k === (names[e.key] ?? e.key) && (!when || when()));
  if (!hit) return;
  e.preventDefault();
  hit[2]();
});
$('keys-button').onclick = () => $('keys-dialog').showModal();
$('tour-start').onclick = () => tour.start();

learn();
route();
