// How TCP's things are called on this page, in one place.
import { clip, count, duration } from './util.js';
import { lost, view } from './model.js';

/** kind is what a segment is, in a word. Flags are tcpdump's letters. */
export function kind(p) {
  const f = p.flags ?? '';
  if (f.includes('R')) return 'RST';
  if (f.includes('S')) return f.includes('.') ? 'SYN-ACK' : 'SYN';
  if (f.includes('F')) return 'FIN';
  if (p.plen > 0) return 'DATA';
  return 'ACK';
}

/** seqOf and ackOf are a segment's numbers, relative or as they are. */
export const seqOf = (p) => (view.relative && p.rel ? p.rel.seq : p.seqno);
export const ackOf = (p) => (view.relative && p.rel ? p.rel.ack : p.ack);

const num = (n) => (view.relative ? count(n ?? 0) : String(n ?? 0));

/** window is what a segment offers, in bytes; in the wire's own unit where the scale was not seen. */
const window = (p) => (p.win === undefined ? `win ${p.rwin} unscaled` : `win ${count(p.win)}`);

/** label is what is written at a segment's arrow: the kind, and the numbers, those that may be left out last. */
export function label(p) {
  const k = kind(p), seq = seqOf(p), acks = (p.flags ?? '').includes('.');
  const ack = acks ? [`ack ${num(ackOf(p))}`] : [];
  const data = [`${num(seq)}:${num(seq + p.plen)}`, `${count(p.plen)} B`, ...ack];
  switch (k) {
    case 'SYN':
    case 'SYN-ACK':
      return [k, [`seq ${num(seq)}`, ...ack, window(p)]];
    case 'ACK':
      return [p.dup ? 'DUP ACK' : k, [num(ackOf(p)), ...(p.sack?.length ? [`SACK ${sacks(p)}`] : []), window(p)]];
    case 'RST':
      return [k, [`seq ${num(seq)}`, ...ack]];
    case 'FIN':
      return p.plen ? ['DATA FIN', data] : [k, [`seq ${num(seq)}`, ...ack]];
    default:
      return [k, data];
  }
}

/** title is a label in full. */
export const title = (p) => { const [k, numbers] = label(p); return `${k} ${numbers.join(' · ')}`; };

/** fit joins as many of the parts as find room; of the first, as much. */
export function fit(parts, chars) {
  let line = clip(parts[0], Math.max(chars, 6));
  for (const p of parts.slice(1)) {
    if (line.length + 3 + p.length > chars) break;
    line += ` · ${p}`;
  }
  return line;
}

/** sacks are a segment's SACK blocks; relative to what its sender has acknowledged, as far as that is known. */
export function sacks(p) {
  const shift = view.relative && p.rel ? p.ack - p.rel.ack : 0;
  return p.sack.map(([l, r]) => `${num((l - shift) >>> 0)}:${num((r - shift) >>> 0)}`).join(' ');
}

/** causes are netstack's reasons to send again, in a sentence. */
const causes = {
  RTO: 'the retransmission timer fired',
  SYN: 'no answer to the SYN in time',
  fast: 'three duplicate ACKs',
  RACK: 'a segment sent later has arrived',
  'tail-loss probe': 'nothing came for two round trips',
  'zero-window probe': 'is the window still closed?',
  keepalive: 'is anybody there?',
  'path MTU': 'the segment was too big for the path',
};
export const why = (cause) => causes[cause] ?? cause;

/** fate is what became of a packet, if it is not simply arrival; '' otherwise. */
export function fate(p) {
  if (lost(p)) return `lost: ${p.why || p.action}`;
  if (p.lost) return `lost: ${p.lost}`;
  if (p.drop) return `dropped: ${p.drop}`;
  return '';
}

/** marks are what else the link did to a packet. */
export function marks(p) {
  const list = (p.k === 'l' ? [p] : p.link ?? []).filter((l) => !lost(l) && l.action !== 'delay' && l.action !== 'hold');
  return list.map((l) => (l.why && l.why !== l.action ? `${l.action}: ${l.why}` : l.action)).join(', ');
}

/** sentence describes an event for those who do not see it drawn, and in titles. */
export function sentence(e, t0) {
  const at = `${(e.t - t0).toFixed(6)} s: `;
  switch (e.k) {
    case 'p':
    case 'l': {
      const way = e.out ? 'sent' : 'received';
      const parts = [`${at}${e.k === 'l' ? (e.out ? 'sent, ' : 'on its way to us, ') : `${way}, `}${title(e)}`];
      if (e.retransmit) parts.push(`sent again, ${e.retransmit}: ${why(e.retransmit)}`);
      if (fate(e)) parts.push(fate(e));
      if (marks(e)) parts.push(marks(e));
      return parts.join('; ');
    }
    case 's': return `${at}state ${e.from} to ${e.to}`;
    case 'c': return `${at}${e.text}${e.dur ? `, took ${duration(e.dur)}` : ''}`;
    case 't': return `${at}${e.name} timer fired`;
    case 'gap': return `${at}${count(e.n)} events are missing here: they came faster than they could be kept`;
  }
  return at;
}

/** short is a call in so many characters: its name, what of its arguments finds room, its result. */
export function short(call, chars) {
  const [, head, result] = call.text.match(/^(.*)\) += (-?\w+(?: E[A-Z]+)?)/s) ?? [null, call.text, ''];
  const tail = `) = ${result}`, line = head + (result && tail);
  if (line.length <= chars || !result) return clip(line, chars);
  return clip(head, Math.max(chars - tail.length, 8)) + tail;
}
