// The strips below the time-sequence graph, on the same time axis: what the sender may send, and what it
// believes of the round trip.
import { colour } from './util.js';
import { model } from './model.js';
import { Plot, span } from './plot.js';
import uPlot from './vendor/uPlot.esm.js';

const ENDLESS = 1 << 20; // segments; an ssthresh this high, or 0, is "not set yet"

const stepped = uPlot.paths.stepped({ align: 1 });
const line = (name, more) => ({ paths: stepped, stroke: () => colour(name), width: 1.5, points: { show: false }, ...more });

// recovering shades the time in which the sender repairs losses.
function recovering(u) {
  const { ctx } = u, { left, top, width, height } = u.bbox;
  const [a, b] = [u.scales.x.min, u.scales.x.max];
  const x = (t) => left + Math.min(Math.max((t - model.t0 - a) / (b - a), 0), 1) * width;
  ctx.save();
  ctx.fillStyle = colour('recovery');
  let from = null;
  for (const m of model.samples) {
    if (m.recovery && from === null) from = m.t;
    else if (!m.recovery && from !== null) { ctx.fillRect(x(from), top, Math.max(x(m.t) - x(from), 1), height); from = null; }
  }
  if (from !== null) ctx.fillRect(x(from), top, x(b + model.t0) - x(from), height);
  ctx.restore();
}

const highest = (arrays, range, times) => {
  let hi = 0;
  for (let i = 0; i < times.length; i++) {
    if (times[i] < range[0] || times[i] > range[1]) continue;
    for (const a of arrays) if (a[i] > hi) hi = a[i];
  }
  return hi;
};

/** Cwnd shows cwnd, ssthresh and the data in flight, in segments. */
export class Cwnd extends Plot {
  constructor(box) {
    super(box, {
      height: 130, name: 'Congestion window, slow-start threshold and data in flight',
      options: {
        scales: { y: { range: () => [0, Math.max(this.top ?? 10, 4) * 1.12] } },
        series: [{}, line('flight', { fill: () => colour('flight-fill'), width: 1 }), line('ssthresh', { dash: [5, 4] }), line('cwnd', { width: 2 })],
        axes: [{ size: 58, values: (u, v) => v.map((n) => (Number.isInteger(n) ? `${n}` : '')) }],
        hooks: { drawClear: [recovering] },
      },
    });
  }

  data() {
    const t = [], flight = [], ssthresh = [], cwnd = [];
    for (const m of model.samples) {
      t.push(m.t - model.t0);
      flight.push(m.mss ? m.inflight / m.mss : null);
      ssthresh.push(m.ssthresh > 0 && m.ssthresh < ENDLESS ? m.ssthresh : null);
      cwnd.push(m.cwnd);
    }
    this.top = highest([flight, ssthresh, cwnd], span.range(), t);
    return [t, flight, ssthresh, cwnd];
  }
}

/** RTT shows the smoothed round trip and the retransmission timeout, in milliseconds. */
export class RTT extends Plot {
  constructor(box) {
    super(box, {
      height: 130, name: 'Smoothed round-trip time and retransmission timeout, on a logarithmic scale',
      options: {
        scales: { y: { distr: 3, range: () => this.range ?? [1, 1000] } },
        series: [{}, line('rto', { dash: [5, 4] }), line('rtt', { width: 2 })],
        axes: [{ size: 58, values: (u, v) => v.map((n) => (n === null || Math.log10(n) % 1 ? '' : n >= 1000 ? `${n / 1000} s` : n < 1 ? `${Math.round(n * 1000)} µs` : `${n} ms`)) }],
        hooks: { drawClear: [recovering] },
      },
    });
  }

  data() {
    const t = [], rto = [], rtt = [];
    let lo = Infinity, hi = 0;
    for (const m of model.samples) {
      t.push(m.t - model.t0);
      rto.push(m.rto ? m.rto * 1e3 : null);
      rtt.push(m.srtt ? m.srtt * 1e3 : null);
      if (m.srtt) lo = Math.min(lo, m.srtt * 1e3);
      hi = Math.max(hi, m.rto * 1e3, m.srtt * 1e3);
    }
    this.range = hi ? [10 ** Math.floor(Math.log10(Math.min(lo, hi))), 10 ** Math.ceil(Math.log10(hi * 1.01))] : [1, 1000];
    return [t, rto, rtt];
  }
}

export const cwndSigns = [['cwnd', 'cwnd (segments)', '━'], ['ssthresh', 'ssthresh', '┅'], ['flight', 'in flight', '▒'], ['recovery', 'recovering', '■']];
export const rttSigns = [['rtt', 'smoothed RTT', '━'], ['rto', 'RTO', '┅']];
