// What the three plots of a connection share: the time axis, zooming, the cursor, the moment that is shown.
import uPlot from './vendor/uPlot.esm.js';
import { clamp, colour, every, repaint } from './util.js';
import { hover, model, view } from './model.js';

const REDRAW = 100; // ms between two paintings of live plots: an eye follows ten a second, a laptop stays cool
const FONT = '11px system-ui, sans-serif';

/** span is the part of time that all plots show: {min, max} in seconds of the connection, or the whole. */
class Span extends EventTarget {
  min = null;
  max = null;

  set(min, max) {
    if (min !== null && max - min < 1e-6) return;
    this.min = min;
    this.max = max;
    this.dispatchEvent(new Event('change'));
  }

  /** range is what is shown now. */
  range() {
    if (this.min !== null) return [this.min, this.max];
    return this.whole();
  }

  whole() {
    const first = model.events[0]?.t ?? model.t0, last = model.events.at(-1)?.t ?? first + 0.1;
    const a = first - model.t0, b = Math.max(last, model.samples.at(-1)?.t ?? 0) - model.t0;
    const pad = Math.max((b - a) * 0.02, 1e-4);
    return [a - pad, b + pad];
  }

  /** zoom scales what is shown around a place in it. */
  zoom(factor, at = 0.5) {
    const [a, b] = this.range(), [wa, wb] = this.whole();
    const c = a + (b - a) * at, w = (b - a) * factor;
    if (w >= wb - wa) return this.set(null, null);
    const min = clamp(c - w * at, wa, wb - w);
    this.set(min, min + w);
  }

  /** pan moves what is shown by a part of itself. */
  pan(part) {
    if (this.min === null) return;
    const [a, b] = this.range(), [wa, wb] = this.whole();
    const min = clamp(a + (b - a) * part, wa, wb - (b - a));
    this.set(min, min + (b - a));
  }
}

export const span = new Span();
model.addEventListener('reset', () => span.set(null, null));

/** Plot is a uPlot on the shared axis. Its subclass says what is drawn. */
export class Plot {
  constructor(box, { height, name, options }) {
    this.box = box;
    this.height = height;
    box.tabIndex = 0;
    box.setAttribute('role', 'img');
    box.setAttribute('aria-label', `${name}. Plus and minus zoom, left and right move, 0 shows all, drag to zoom.`);
    this.box = box;
    const opts = {
      width: Math.max(box.clientWidth, 100), height, legend: { show: false }, padding: [8, 10, 0, 0],
      cursor: { y: false, points: { show: false }, drag: { x: true, y: false, setScale: false } },
      ...options,
      scales: { x: { time: false, range: () => span.range() }, ...options.scales },
      axes: [axis({ values: (u, v) => v.map((x) => seconds(x, v)) }), ...options.axes.map(axis)],
      hooks: {
        setSelect: [(u) => this.#selected(u)],
        draw: [...(options.hooks?.draw ?? []), (u) => this.#veil(u)],
        drawClear: options.hooks?.drawClear ?? [],
      },
    };
    this.plot = new uPlot(opts, this.data(), box);
    this.draw = every(REDRAW, () => this.#draw());
    this.soon = every(16, () => this.#draw());
    model.addEventListener('batch', this.draw);
    model.addEventListener('reset', this.draw);
    view.addEventListener('change', this.soon);
    span.addEventListener('change', this.soon);
    repaint.addEventListener('change', () => this.#draw());
    new ResizeObserver(() => this.#draw()).observe(box);
    const over = this.plot.over;
    over.addEventListener('pointermove', (e) => {
      const r = over.getBoundingClientRect();
      hover.set(this.plot.posToVal(e.clientX - r.left, 'x') + model.t0, this);
    });
    over.addEventListener('pointerleave', () => hover.set(null, this));
    over.addEventListener('dblclick', () => span.set(null, null));
    over.addEventListener('wheel', (e) => {
      if (!e.ctrlKey && !e.shiftKey) return; // a bare wheel scrolls the page
      e.preventDefault();
      const r = over.getBoundingClientRect();
      span.zoom((e.deltaY || e.deltaX) > 0 ? 1.25 : 0.8, (e.clientX - r.left) / r.width);
    }, { passive: false });
    over.addEventListener('click', (e) => {
      if (this.dragged) { this.dragged = false; return; }
      const r = over.getBoundingClientRect();
      this.clicked?.(this.plot.posToVal(e.clientX - r.left, 'x') + model.t0);
    });
    box.addEventListener('keydown', (e) => {
      const act = { '+': () => span.zoom(0.7), '=': () => span.zoom(0.7), '-': () => span.zoom(1.4), 0: () => span.set(null, null),
        ArrowLeft: () => span.pan(-0.2), ArrowRight: () => span.pan(0.2) }[e.key];
      if (!act) return;
      e.preventDefault();
      e.stopPropagation();
      act();
    });
    hover.addEventListener('change', (e) => {
      if (e.detail === this) return;
      const t = hover.time;
      this.plot.setCursor(t === null ? { left: -10, top: -10 } : { left: this.plot.valToPos(t - model.t0, 'x'), top: 0 }, false);
    });
  }

  #selected(u) {
    const { left, width } = u.select;
    if (width < 4) return;
    this.dragged = true;
    span.set(u.posToVal(left, 'x'), u.posToVal(left + width, 'x'));
    u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
  }

  // veil covers what is later than the moment shown.
  #veil(u) {
    if (view.time === null) return;
    const { left, top, width, height } = u.bbox, [a, b] = span.range();
    const x = clamp(left + (view.time - model.t0 - a) / (b - a) * width, left, left + width);
    const { ctx } = u;
    ctx.save();
    ctx.globalAlpha = 0.78;
    ctx.fillStyle = colour('card');
    ctx.fillRect(x, top, left + width - x, height);
    ctx.globalAlpha = 1;
    ctx.strokeStyle = colour('accent');
    ctx.lineWidth = 1.5 * devicePixelRatio;
    ctx.beginPath();
    ctx.moveTo(x, top);
    ctx.lineTo(x, top + height);
    ctx.stroke();
    ctx.restore();
  }

  #draw() {
    const w = this.box.clientWidth;
    if (!w || !this.box.isConnected) return;
    if (Math.abs(this.plot.width - w) >= 1) this.plot.setSize({ width: w, height: this.height });
    this.plot.setData(this.data(), true);
  }
}

const seconds = (x, all) => {
  const step = all.length > 1 ? Math.abs(all[1] - all[0]) : 1;
  return step >= 0.01 ? `${x.toFixed(step < 0.1 ? 2 : step < 1 ? 1 : 0)} s` : `${(x * 1000).toFixed(step < 1e-4 ? 2 : step < 1e-3 ? 1 : 0)} ms`;
};

const axis = (more) => ({
  font: FONT, stroke: () => colour('soft'), grid: { stroke: () => colour('grid'), width: 1 }, ticks: { stroke: () => colour('grid'), width: 1, size: 4 },
  gap: 4, size: 28, ...more,
});
