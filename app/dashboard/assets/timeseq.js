// The time-sequence graph, in tcptrace's conventions: segments as vertical arrows, R for what is sent again,
// the green line of acknowledgements, the yellow line of what the receiver allows, purple SACK blocks.
import { after, bytes, colour, count, duration, h } from './util.js';
import { lost as gone, model, view } from './model.js';
import { Plot, span } from './plot.js';
import { Pen } from './svg.js';

/** direction is which way's data are drawn: as chosen, or the busier. */
export function direction() {
  if (view.direction !== null) return view.direction;
  const c = model.connection();
  return c ? c.tx >= c.rx : true;
}

const rel = (p) => p.rel?.seq ?? p.seqno;
const relAck = (p) => p.rel?.ack ?? p.ack;

/** inWindow returns the first and last events' indices of a range of time. */
function inWindow([a, b]) {
  const { events, t0 } = model;
  // One before and after: a line goes on to the edge.
  return [Math.max(0, after(events, (e) => e.t < a + t0) - 1), Math.min(events.length, after(events, (e) => e.t <= b + t0) + 1)];
}

/** extent is the sequence numbers that are in sight. */
function extent(out, range) {
  const [i0, i1] = inWindow(range);
  let lo = Infinity, hi = -Infinity;
  for (let i = i0; i < i1; i++) {
    const p = model.events[i];
    if (!p.flags) continue;
    if (p.out === out) {
      const q = rel(p);
      if (p.plen || /[SF]/.test(p.flags)) { lo = Math.min(lo, q); hi = Math.max(hi, q + p.plen); }
    } else if (p.flags.includes('.') && !p.flags.includes('R')) {
      const a = relAck(p);
      lo = Math.min(lo, a);
      hi = Math.max(hi, a);
    }
  }
  if (lo > hi) return [0, 1];
  // The window's line is drawn where it is near; a receiver that offers megabytes must not flatten the rest.
  const room = Math.max((hi - lo) * 0.12, 10);
  return [lo - room * 0.5, hi + room];
}

/**
 * paint draws the graph with a pen (a canvas or an SVG). x and y turn seconds and sequence numbers into its
 * coordinates; unit is a CSS pixel in them.
 */
export function paint(pen, { x, y, unit, range, out, bottom, top }) {
  const [i0, i1] = inWindow(range), { events, t0 } = model;
  const ink = colour('seg'), red = colour('again'), green = colour('ack'), yellow = colour('wnd'), purple = colour('sack');
  const acks = [], again = [], sacks = [], dups = [], flags = [], lost = [];

  // Segments: those of one column of pixels that touch are one line.
  pen.strokeStyle = ink;
  pen.lineWidth = 1.4 * unit;
  pen.beginPath();
  let column = NaN, lo = 0, hi = 0;
  const flush = () => {
    if (Number.isNaN(column)) return;
    pen.moveTo(column, lo);
    pen.lineTo(column, hi);
  };
  for (let i = i0; i < i1; i++) {
    const p = events[i];
    if (!p.flags || (p.k === 'l' && !gone(p))) continue;
    if (p.out === out) {
      if (p.retransmit && p.plen) again.push(p);
      if (p.lost || p.drop || p.k === 'l') lost.push(p);
      const mark = /S/.test(p.flags) ? 'SYN' : /F/.test(p.flags) ? 'FIN' : /R/.test(p.flags) ? 'RST' : '';
      if (mark) flags.push([p, mark]);
      if (!p.plen || p.retransmit || (p.k === 'l' && p.of)) continue;
      const px = Math.round(x(p.t - t0)), y0 = y(rel(p)), y1 = y(rel(p) + p.plen);
      if (px === column && Math.abs(y0 - hi) < 2 * unit) { hi = y1; continue; }
      flush();
      column = px; lo = y0; hi = y1;
      if (y0 - y1 > 7 * unit) arrows(pen, px, y0, y1, unit);
    } else if (p.k === 'p' && p.flags.includes('.') && !p.flags.includes('R')) {
      acks.push(p);
      if (p.dup) dups.push(p);
      if (p.sack?.length) sacks.push(p);
    }
  }
  flush();
  pen.stroke();

  // The receiver's window, and what it has acknowledged: stairs.
  const stairs = (list, of, style, width) => {
    pen.strokeStyle = style;
    pen.lineWidth = width * unit;
    pen.beginPath();
    let last = null, px = NaN;
    for (const p of list) {
      const nx = x(p.t - t0), ny = Math.max(y(of(p)), top - 4 * unit);
      if (last === null) pen.moveTo(nx, ny);
      else if (Math.abs(nx - px) < 0.5 && Math.abs(ny - last) < 0.5) continue;
      else { pen.lineTo(nx, last); pen.lineTo(nx, ny); }
      last = ny; px = nx;
    }
    if (last !== null) pen.lineTo(x(Math.min(range[1], (events.at(-1)?.t ?? t0) - t0)), last);
    pen.stroke();
  };
  stairs(acks.filter((p) => p.win !== undefined), (p) => relAck(p) + p.win, yellow, 1.4);
  stairs(acks, relAck, green, 1.6);

  pen.strokeStyle = green;
  pen.lineWidth = unit;
  pen.beginPath();
  let tick = -Infinity;
  for (const p of dups) {
    const px = x(p.t - t0), py = y(relAck(p));
    if (px - tick < 3 * unit) continue; // a comb this fine would be a bar
    tick = px;
    pen.moveTo(px, py);
    pen.lineTo(px, py + 5 * unit);
  }
  pen.stroke();

  pen.strokeStyle = purple;
  pen.lineWidth = 2 * unit;
  pen.beginPath();
  for (const p of sacks) {
    const px = x(p.t - t0), shift = p.ack - relAck(p);
    for (const [l, r] of p.sack) { pen.moveTo(px, y((l - shift) >>> 0)); pen.lineTo(px, y((r - shift) >>> 0)); }
  }
  pen.stroke();

  pen.strokeStyle = pen.fillStyle = red;
  pen.lineWidth = 2 * unit;
  pen.font = `700 ${11 * unit}px system-ui, sans-serif`;
  pen.textAlign = 'center';
  pen.beginPath();
  for (const p of again) { const px = x(p.t - t0); pen.moveTo(px, y(rel(p))); pen.lineTo(px, y(rel(p) + p.plen)); }
  for (const p of lost) {
    const px = x(p.t - t0), py = y(rel(p) + p.plen / 2), a = 4 * unit;
    pen.moveTo(px - a, py - a); pen.lineTo(px + a, py + a); pen.moveTo(px + a, py - a); pen.lineTo(px - a, py + a);
  }
  pen.stroke();
  let free = -Infinity;
  for (const p of again) {
    const px = x(p.t - t0);
    if (px - free < 8 * unit) continue; // letters that would cover each other say no more than one
    pen.fillText('R', px, y(rel(p) + p.plen) - 4 * unit);
    free = px;
  }
  pen.fillStyle = ink;
  pen.font = `${10 * unit}px system-ui, sans-serif`;
  for (const [p, mark] of flags) {
    const py = y(rel(p) + p.plen);
    pen.textAlign = x(p.t - t0) > x(range[1]) - 30 * unit ? 'right' : 'left';
    pen.fillText(mark, x(p.t - t0) + (pen.textAlign === 'right' ? -4 : 4) * unit, py > bottom - 14 * unit ? py - 5 * unit : py + 11 * unit);
  }
}

function arrows(pen, x, y0, y1, unit) {
  const a = 2.6 * unit;
  pen.moveTo(x - a, y1 + a); pen.lineTo(x, y1); pen.lineTo(x + a, y1 + a);
  pen.moveTo(x - a, y0 - a); pen.lineTo(x, y0); pen.lineTo(x + a, y0 - a);
}

// ticks are some five round numbers in a range.
function ticks([lo, hi]) {
  const raw = (hi - lo) / 5, ten = 10 ** Math.floor(Math.log10(raw)), step = ten * [1, 2, 5, 10].find((k) => k * ten >= raw);
  const list = [];
  for (let n = Math.ceil(lo / step); n * step <= hi; n++) list.push(n * step);
  return list;
}

/** signs are what the legend explains; each is told by its shape as well. */
export const signs = [
  ['seg', 'segment', '↕'], ['again', 'sent again', 'R'], ['again', 'lost', '✕'], ['ack', 'acknowledged', '┘'], ['wnd', 'ack + window', '┘'], ['sack', 'SACK', '┃'],
];

export class TimeSeq extends Plot {
  constructor(box, { onMoment }) {
    super(box, {
      height: 320, name: 'Time–sequence graph',
      options: {
        scales: { y: { range: () => extent(direction(), span.range()) } },
        series: [{}, { paths: () => null, points: { show: false } }],
        axes: [{ size: 58, values: (u, v) => v.map((n) => (n < 0 ? '' : n === 0 ? '0' : bytes(n))) }],
        hooks: { draw: [(u) => this.#paint(u)] },
      },
    });
    this.clicked = onMoment;
  }

  data() {
    const [a, b] = span.range(), [lo, hi] = extent(direction(), [a, b]);
    return [[a, b], [lo, hi]];
  }

  #paint(u) {
    const { ctx } = u, { left, top, width, height } = u.bbox;
    const range = [u.scales.x.min, u.scales.x.max], lo = u.scales.y.min, hi = u.scales.y.max;
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, top, width, height);
    ctx.clip();
    paint(ctx, { x: (t) => left + (t - range[0]) / (range[1] - range[0]) * width, y: (q) => top + height - (q - lo) / (hi - lo) * height,
      unit: devicePixelRatio, range, out: direction(), top, bottom: top + height });
    ctx.restore();
  }

  /** picture is the graph as an SVG element. */
  picture() {
    const w = 1000, hgt = 520, left = 74, top = 40, width = w - left - 20, height = hgt - top - 44;
    const range = span.range(), [lo, hi] = extent(direction(), range), pen = new Pen();
    const x = (t) => left + (t - range[0]) / (range[1] - range[0]) * width, y = (q) => top + height - (q - lo) / (hi - lo) * height;
    pen.font = '11px system-ui, sans-serif';
    pen.lineWidth = 1;
    const line = (x0, y0, x1, y1) => { pen.strokeStyle = colour('grid'); pen.beginPath(); pen.moveTo(x0, y0); pen.lineTo(x1, y1); pen.stroke(); };
    pen.fillStyle = colour('soft');
    pen.textAlign = 'center';
    for (const t of ticks(range)) { line(x(t), top, x(t), top + height); pen.fillText(duration(t), x(t), top + height + 18); }
    pen.textAlign = 'right';
    for (const q of ticks([Math.max(lo, 0), hi])) { line(left, y(q), left + width, y(q)); pen.fillText(count(q), left - 6, y(q) + 4); }
    const c = model.connection();
    pen.fillStyle = colour('ink');
    pen.textAlign = 'left';
    pen.font = '600 14px system-ui, sans-serif';
    pen.fillText(`${direction() ? c?.local : c?.remote} → ${direction() ? c?.remote : c?.local}`, left, 22);
    pen.clip(left, top, width, height);
    paint(pen, { x, y, unit: 1, range, out: direction(), top, bottom: top + height });
    return pen.svg(w, hgt, colour('card'));
  }
}

/** legend writes the signs. */
export const legend = (list) => list.map(([name, words, sign]) => h('li', {}, h('span', { class: `sign ${name}`, 'aria-hidden': 'true' }, sign), words));
