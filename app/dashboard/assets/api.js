// What the page asks of catflap: JSON, changes with the token, and the stream of events.

/** Problem is an answer that is none: what went wrong, and what helps. */
export class Problem extends Error {
  constructor(status, body) {
    super(body?.error ?? `the server answered ${status}`);
    this.status = status;
    this.remedy = body?.remedy ?? '';
    this.body = body ?? {};
  }
}

async function answer(res) {
  if (res.status === 204) return null;
  const body = await res.json().catch(() => null);
  if (!res.ok) throw new Problem(res.status, body);
  return body;
}

/** get asks for JSON. */
export async function get(path) {
  return answer(await fetch(path, { cache: 'no-store' }));
}

// The token lives as long as the tab, and is sent in a header only.
const tokenKey = 'catflap-token';
let token = '';
try { token = sessionStorage.getItem(tokenKey) ?? ''; } catch { /* no storage: it is kept in memory */ }

export const hasToken = () => token !== '';

export function setToken(value) {
  token = value;
  try { sessionStorage.setItem(tokenKey, value); } catch { /* the same */ }
}

/** asker shows a dialog and resolves to a token, or to '' if the person would rather not. */
let asker = async () => '';
export const onTokenNeeded = (fn) => { asker = fn; };

async function send(method, path, body, withToken) {
  return answer(await fetch(path, {
    method,
    cache: 'no-store',
    headers: { 'Content-Type': 'application/json', 'X-Catflap-Token': withToken },
    body: body === undefined ? undefined : JSON.stringify(body),
  }));
}

/** tryToken resolves if the server takes the token. */
export const tryToken = (value) => send('POST', 'api/token', {}, value);

/**
 * change asks for a change. A missing or wrong token is asked for, once. It resolves to undefined if the
 * person gave none.
 */
export async function change(method, path, body) {
  if (!token) {
    const given = await asker('');
    if (!given) return undefined;
    setToken(given);
  }
  try {
    return await send(method, path, body, token);
  } catch (err) {
    if (!(err instanceof Problem) || err.status !== 401) throw err;
    setToken('');
    const given = await asker(err.message);
    if (!given) return undefined;
    setToken(given);
    return send(method, path, body, token);
  }
}

// Reconnecting starts at once and slows down: a server that restarts is back in a second, one that is gone
// is not asked more than a few times a minute.
const RETRY_FIRST = 500, RETRY_MOST = 10_000; // ms
const SILENCE = 6_000; // ms; the overview comes each half second, so a stream this quiet is dead

/**
 * Stream is the page's one event stream. It is opened again when it breaks, with the same question.
 * onEvent gets (name, data); onStatus gets {open}, {open: false, retryAt, reason}, or {gone} of a
 * connection that the server does not keep; the stream is then of the overview.
 */
export class Stream {
  #source = null;
  #conn = 0;
  #timer = 0;
  #watch = 0;
  #wait = RETRY_FIRST;
  #heard = 0;
  #bye = '';

  constructor(onEvent, onStatus) {
    this.onEvent = onEvent;
    this.onStatus = onStatus;
  }

  /** ask opens the stream for a connection, or with 0 for the overview alone. */
  ask(conn) {
    this.#conn = conn;
    this.#wait = RETRY_FIRST;
    this.#open();
  }

  /** again tries at once. */
  again() { this.#open(); }

  #open() {
    this.#shut();
    const source = new EventSource(this.#conn ? `api/stream?conn=${this.#conn}` : 'api/stream');
    this.#source = source;
    this.#heard = performance.now();
    source.onopen = () => {
      this.#wait = RETRY_FIRST;
      this.#bye = '';
      this.onStatus({ open: true });
    };
    source.onerror = () => this.#refused(source);
    for (const name of ['overview', 'connections', 'batch', 'calls']) {
      source.addEventListener(name, (e) => {
        this.#heard = performance.now();
        this.onEvent(name, JSON.parse(e.data));
      });
    }
    source.addEventListener('bye', (e) => { this.#bye = JSON.parse(e.data).reason; });
    this.#watch = setInterval(() => {
      if (performance.now() - this.#heard > SILENCE) this.#broken(`nothing heard for ${SILENCE / 1000} seconds`);
    }, 1000);
  }

  // An EventSource does not say why it has failed: ask in another way.
  async #refused(source) {
    this.#shut();
    let reason = this.#bye || 'the connection to catflap is gone';
    const conn = this.#conn;
    const kept = await get('api/connections?closed=1').catch(() => null);
    if (this.#source || conn !== this.#conn) return; // another question was asked meanwhile
    if (kept && conn && !kept.some((c) => c.id === conn)) {
      this.#conn = 0;
      this.onStatus({ gone: conn });
      this.#open();
      return;
    }
    if (kept && source.readyState === EventSource.CLOSED) reason = 'catflap answers, but gives no stream; it may have as many pages as it allows';
    this.#broken(reason);
  }

  #broken(reason) {
    this.#shut();
    this.onStatus({ open: false, reason, retryAt: Date.now() + this.#wait });
    this.#timer = setTimeout(() => this.#open(), this.#wait);
    this.#wait = Math.min(this.#wait * 2, RETRY_MOST);
  }

  #shut() {
    clearTimeout(this.#timer);
    clearInterval(this.#watch);
    this.#source?.close();
    this.#source = null;
  }
}
