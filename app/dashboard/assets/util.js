// Small things that every module uses: elements, numbers as text, frames, colours.

export const $ = (id) => document.getElementById(id);

/** h makes an HTML element. Properties are set as attributes; on… are listeners; null and false are left out. */
export function h(tag, props, ...children) {
  return fill(document.createElement(tag), props, children);
}

const svgNS = 'http://www.w3.org/2000/svg';

/** s makes an SVG element, as h does. */
export function s(tag, props, ...children) {
  return fill(document.createElementNS(svgNS, tag), props, children);
}

function fill(el, props, children) {
  for (const [k, v] of Object.entries(props ?? {})) {
    if (v === null || v === undefined || v === false) continue;
    if (k.startsWith('on')) el.addEventListener(k.slice(2), v);
    else el.setAttribute(k, v === true ? '' : v);
  }
  el.append(...children.flat(Infinity).filter((c) => c !== null && c !== undefined && c !== false));
  return el;
}

/** text sets an element's text if it differs: an unchanged text is not laid out again. */
export function text(el, value) {
  value = String(value);
  if (el.textContent !== value) el.textContent = value;
}

/** once returns a function that calls fn in the next frame, however often it is asked before. */
export function once(fn) {
  let asked = false;
  return () => {
    if (asked) return;
    asked = true;
    requestAnimationFrame((now) => { asked = false; fn(now); });
  };
}

/** every is once, but at most each ms milliseconds. */
export function every(ms, fn) {
  let timer = 0, last = -Infinity;
  const run = once((now) => { last = now; fn(now); });
  return () => {
    if (timer) return;
    const wait = last + ms - performance.now();
    if (wait <= 0) run();
    else timer = setTimeout(() => { timer = 0; run(); }, wait);
  };
}

const whole = new Intl.NumberFormat('en-US');

/** count is a whole number with separators. */
export const count = (n) => whole.format(Math.round(n));

/** bytes is a number of bytes in a unit that leaves three or four digits; decimal units, as of rates. */
export function bytes(n) {
  if (n === null || n === undefined) return '–';
  if (n < 10_000) return `${count(n)} B`;
  for (const [unit, scale] of [['kB', 1e3], ['MB', 1e6], ['GB', 1e9], ['TB', 1e12]]) {
    if (n < scale * 999.5) return `${trim(n / scale, 3)} ${unit}`;
  }
  return `${count(n / 1e12)} TB`;
}

/** rate is a number of packets a second. */
export const rate = (n) => (n === 0 ? '0/s' : n < 10 ? `${n.toFixed(1)}/s` : `${count(n)}/s`);

/** duration is a time in seconds in a unit that suits it. */
export function duration(sec) {
  if (sec === null || sec === undefined) return '–';
  const a = Math.abs(sec);
  if (a < 1e-3) return `${trim(sec * 1e6, 3)} µs`;
  if (a < 1) return `${trim(sec * 1e3, 3)} ms`;
  if (a < 120) return `${trim(sec, 3)} s`;
  if (a < 7200) return `${Math.floor(sec / 60)} min ${Math.floor(sec % 60)} s`;
  return `${Math.floor(sec / 3600)} h ${Math.floor((sec % 3600) / 60)} min`;
}

/** trim is a number with so many significant digits, and no zeros after the point. */
export function trim(n, digits) {
  if (n === 0) return '0';
  const whole = Math.floor(Math.log10(Math.abs(n))) + 1;
  const s = n.toFixed(Math.max(0, digits - Math.max(whole, 1)));
  return s.includes('.') ? s.replace(/\.?0+$/, '') : s;
}

/** stamp is a moment of a connection, in seconds from its start. */
export const stamp = (sec, digits = 6) => sec.toFixed(digits);

/** clip cuts a text to so many characters. */
export const clip = (s, n) => (s.length <= n ? s : n < 2 ? '' : `${s.slice(0, n - 1)}…`);

/** clamp keeps n within lo and hi. */
export const clamp = (n, lo, hi) => Math.min(Math.max(n, lo), hi);

/** after returns how many of a sorted array's first elements satisfy before: a binary search. */
export function after(list, before) {
  let lo = 0, hi = list.length;
  while (lo < hi) {
    const mid = (lo + hi) >> 1;
    if (before(list[mid])) lo = mid + 1; else hi = mid;
  }
  return lo;
}

// Colours for canvases, which know no custom properties: read through a probe, and again after a switch.
let palette = new Map();
let probe = null;

/** colour is the value of a custom property in the theme of now. */
export function colour(name) {
  if (!palette.has(name)) {
    probe ??= document.body.appendChild(h('span', { hidden: true }));
    probe.style.color = `var(--${name})`;
    palette.set(name, getComputedStyle(probe).color);
  }
  return palette.get(name);
}

export const repaint = new EventTarget();

/** themeChanged forgets the colours and has what is painted painted again. */
export function themeChanged() {
  palette = new Map();
  repaint.dispatchEvent(new Event('change'));
}

/** toast says something that needs no answer. */
let toastTimer = 0;
export function toast(message, kind = 'info') {
  const el = $('toast');
  el.textContent = message;
  el.dataset.kind = kind;
  el.hidden = false;
  clearTimeout(toastTimer);
  toastTimer = setTimeout(() => { el.hidden = true; }, kind === 'error' ? 9000 : 4000);
}

/** save hands the browser a file. */
export function save(name, type, content) {
  const url = URL.createObjectURL(new Blob([content], { type }));
  const a = h('a', { href: url, download: name });
  document.body.append(a);
  a.click();
  a.remove();
  setTimeout(() => URL.revokeObjectURL(url), 1000);
}
