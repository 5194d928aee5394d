// The table of sockets, and of connections that were: sorted, filtered, and only the rows in sight are made.
import { bytes, count, duration, h, once, text } from './util.js';
import { model } from './model.js';

const ROW = 32; // px
const OVERSCAN = 8; // rows beyond the window

// Columns: key, heading, how a cell is written, and whether it may be left out on a narrow page.
const now = [
  { key: 'state', name: 'State', cell: (r) => stateCell(r.state) },
  { key: 'remote', name: 'Peer', cls: 'mono', cell: (r) => r.remote || '*' },
  { key: 'local', name: 'Local', cls: 'mono opt', cell: (r) => r.local },
  { key: 'fd', name: 'fd', cls: 'num opt', cell: (r) => (r.fd >= 0 ? r.fd : '–') },
  { key: 'recvq', name: 'Recv-Q', cls: 'num opt', cell: (r) => count(r.recvq ?? 0) },
  { key: 'sendq', name: 'Send-Q', cls: 'num opt', cell: (r) => count(r.sendq ?? 0) },
  { key: 'rx', name: 'Received', cls: 'num opt', cell: (r) => bytes(r.rx) },
  { key: 'tx', name: 'Sent', cls: 'num', cell: (r) => bytes(r.tx) },
  { key: 'retrans', name: 'Again', cls: 'num', cell: (r) => (r.retrans ? h('span', { class: 'bad' }, `⟲ ${count(r.retrans)}`) : '0') },
  { key: 'age', name: 'Age', cls: 'num opt', cell: (r) => duration(r.age) },
  { key: 'limit', name: 'Limit', cls: 'opt', cell: (r) => (r.limit ? h('span', { title: r.limit }, brief[r.limit] ?? r.limit) : '') },
];
const was = [
  { key: 'state', name: 'State', cell: (r) => stateCell(r.closed === null ? r.state : 'CLOSED') },
  { key: 'remote', name: 'Peer', cls: 'mono', cell: (r) => r.remote },
  { key: 'local', name: 'Local', cls: 'mono opt', cell: (r) => r.local },
  { key: 'role', name: 'Role', cls: 'opt', cell: (r) => r.role },
  { key: 'opened', name: 'Opened', cls: 'num opt', cell: (r) => `${r.opened.toFixed(3)} s` },
  { key: 'life', name: 'Lasted', cls: 'num', cell: (r) => (r.closed === null ? 'open' : duration(r.closed - r.opened)) },
  { key: 'packets', name: 'Packets', cls: 'num opt', cell: (r) => count(r.packets) },
  { key: 'rx', name: 'Received', cls: 'num opt', cell: (r) => bytes(r.rx) },
  { key: 'tx', name: 'Sent', cls: 'num', cell: (r) => bytes(r.tx) },
  { key: 'retrans', name: 'Again', cls: 'num opt', cell: (r) => (r.retrans ? h('span', { class: 'bad' }, `⟲ ${count(r.retrans)}`) : '0') },
  { key: 'lost', name: 'Lost', cls: 'num', cell: (r) => (r.lost ? h('span', { class: 'bad' }, `✕ ${count(r.lost)}`) : '0') },
];

const brief = { application: 'app', 'receive window': 'rwnd', 'congestion window': 'cwnd' };

const stateCell = (state) => h('span', { class: `state-pill small ${String(state).toLowerCase()}` }, state);

export class Sockets {
  constructor(box, countOut) {
    this.box = box;
    this.countOut = countOut;
    this.history = false;
    this.query = '';
    this.sort = { now: ['age', 1], was: ['opened', -1] };
    this.head = h('thead');
    this.body = h('tbody');
    this.table = h('table', {}, this.head, this.body);
    this.empty = h('div', { class: 'empty' });
    box.append(this.table, this.empty);
    this.draw = once(() => this.#draw());
    box.addEventListener('scroll', this.draw, { passive: true });
    new ResizeObserver(this.draw).observe(box);
    model.addEventListener('overview', this.draw);
    model.addEventListener('connections', this.draw);
    this.show(false);
  }

  /** show chooses between what is there now and what was. */
  show(history) {
    this.history = history;
    const columns = this.#columns();
    this.head.replaceChildren(h('tr', {}, columns.map((c) => h('th', { class: c.cls, scope: 'col', 'data-key': c.key },
      h('button', { type: 'button', onclick: () => this.#by(c.key) }, c.name, h('span', { class: 'arrow', 'aria-hidden': 'true' }))))));
    this.box.scrollTop = 0;
    this.draw();
  }

  filter(query) {
    this.query = query.trim().toLowerCase();
    this.box.scrollTop = 0;
    this.draw();
  }

  #columns() { return this.history ? was : now; }

  #by(key) {
    const which = this.history ? 'was' : 'now', [k, way] = this.sort[which];
    this.sort[which] = [key, k === key ? -way : 1];
    this.draw();
  }

  /** rows are what the table shows, in order. */
  rows() {
    const all = this.history ? model.connections : model.overview?.sockets ?? [];
    const words = this.query.split(/\s+/).filter(Boolean);
    const hit = words.length ? all.filter((r) => {
      const line = [r.state, r.local, r.remote, r.proto, r.role, r.limit, `fd${r.fd}`, r.closed ? 'closed' : ''].join(' ').toLowerCase();
      return words.every((w) => line.includes(w));
    }) : [...all];
    const [key, way] = this.sort[this.history ? 'was' : 'now'];
    const value = (r) => (key === 'life' ? (r.closed ?? Infinity) - r.opened : r[key]);
    return hit.sort((a, b) => {
      const x = value(a), y = value(b);
      if (x === y) return (a.id ?? 0) - (b.id ?? 0);
      if (x === null || x === undefined) return 1;
      if (y === null || y === undefined) return -1;
      return way * (typeof x === 'string' ? x.localeCompare(y, 'en', { numeric: true }) : x - y);
    });
  }

  #draw() {
    if (!this.box.clientWidth) return;
    const rows = this.rows(), columns = this.#columns(), [key, way] = this.sort[this.history ? 'was' : 'now'];
    for (const th of this.head.querySelectorAll('th')) {
      th.setAttribute('aria-sort', th.dataset.key !== key ? 'none' : way > 0 ? 'ascending' : 'descending');
    }
    const from = Math.max(0, Math.floor(this.box.scrollTop / ROW) - OVERSCAN);
    const to = Math.min(rows.length, Math.ceil((this.box.scrollTop + this.box.clientHeight) / ROW) + OVERSCAN);
    const spacer = (n) => (n > 0 ? h('tr', { class: 'spacer', 'aria-hidden': 'true' }, tall(h('td', { colspan: columns.length }), n * ROW)) : null);
    const focused = document.activeElement?.closest?.('tr[data-id]')?.dataset.id;
    this.table.setAttribute('aria-rowcount', rows.length + 1);
    this.body.replaceChildren(...[spacer(from), ...rows.slice(from, to).map((r, i) => this.#row(r, columns, from + i)), spacer(rows.length - to)].filter(Boolean));
    if (focused) this.body.querySelector(`tr[data-id="${focused}"] a`)?.focus({ preventScroll: true });
    const all = this.history ? model.connections.length : model.overview?.sockets?.length ?? 0;
    const more = !this.history && model.overview?.more ? ` and ${count(model.overview.more)} more` : '';
    text(this.countOut, rows.length === all ? `${count(all)}${more}` : `${count(rows.length)} of ${count(all)}${more}`);
    this.table.hidden = rows.length === 0;
    this.empty.hidden = rows.length > 0;
    if (!rows.length) this.#nothing(all);
  }

  #row(r, columns, index) {
    const cells = columns.map((c, i) => {
      const v = c.cell(r);
      return h('td', { class: c.cls }, i === 1 && r.id ? h('a', { href: `#/conn/${r.id}`, 'aria-label': `open the connection with ${r.remote}` }, v) : v);
    });
    return h('tr', { 'data-id': r.id || null, 'aria-rowindex': index + 2, onclick: (e) => { if (r.id && !e.target.closest('a')) location.hash = `#/conn/${r.id}`; } }, cells);
  }

  #nothing(all) {
    const past = this.history ? 0 : model.connections.length, key = `${all} ${past} ${this.query} ${address()}`;
    if (this.empty.dataset.key === key) return;
    this.empty.dataset.key = key;
    if (all) {
      this.empty.replaceChildren(h('p', {}, `None of ${count(all)} matches “${this.query}”.`));
      return;
    }
    if (model.info?.mode === 'view') { this.empty.replaceChildren(h('p', {}, past ? `This is a recording: its ${count(past)} connections are in the history.` : 'This recording has no connections.')); return; }
    this.empty.replaceChildren(h('p', {}, past ? `No connection is open now; the history has ${count(past)}. Run` : 'Nothing yet. Run'), h('p', {}, h('code', {}, `curl ${address()}`)), h('p', {}, 'and watch it arrive.'));
  }
}

const tall = (el, px) => { el.style.height = `${px}px`; return el; };

/** server is the listener that a request should go to: the lowest port, as the page's own may be there too. */
export function server() {
  const port = (l) => Number(l.local.replace(/.*:/, ''));
  return model.overview?.listeners?.filter((l) => l.proto === 'tcp').sort((a, b) => port(a) - port(b))[0];
}

/** address is a URL of the stack's own server. */
export function address() {
  const at = server()?.local.match(/^(.*):(\d+)$/);
  const port = at?.[2] ?? '80';
  let host = at?.[1] ?? '*';
  if (['*', '[::]', '0.0.0.0', ''].includes(host)) host = (model.info?.stack?.addrs?.[0] ?? '10.9.0.2').replace(/\/.*/, '');
  if (host.includes(':') && !host.startsWith('[')) host = `[${host}]`;
  return `http://${host}${port === '80' ? '' : `:${port}`}/`;
}
