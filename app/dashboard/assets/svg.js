// Pictures as files: a pen that writes SVG where a canvas would paint, and elements with their styles inside.
import { s, save } from './util.js';

/** Pen has those of a canvas context's methods and properties that this page's plots use. */
export class Pen {
  strokeStyle = '#000';
  fillStyle = '#000';
  lineWidth = 1;
  font = '';
  textAlign = 'left';
  #parts = [];
  #d = [];
  #clip = null;

  beginPath() { this.#d = []; }
  moveTo(x, y) { this.#d.push(`M${at(x)} ${at(y)}`); }
  lineTo(x, y) { this.#d.push(`L${at(x)} ${at(y)}`); }
  stroke() {
    if (this.#d.length) this.#parts.push(s('path', { d: this.#d.join(''), fill: 'none', stroke: this.strokeStyle, 'stroke-width': this.lineWidth, 'clip-path': this.#clip && 'url(#clip)' }));
  }

  fillText(text, x, y) {
    const [, weight, size] = this.font.match(/^(\d+ )?([\d.]+px)/) ?? [];
    this.#parts.push(s('text', { x: at(x), y: at(y), fill: this.fillStyle, 'font-size': size, 'font-weight': weight?.trim(), 'font-family': 'system-ui, sans-serif',
      'text-anchor': { left: 'start', center: 'middle', right: 'end' }[this.textAlign] }, text));
  }

  /** clip keeps the lines from here on within a box. */
  clip(x, y, width, height) {
    this.#clip = true;
    this.#parts.push(s('clipPath', { id: 'clip' }, s('rect', { x, y, width, height })));
  }

  /** svg is what was drawn. */
  svg(width, height, background) {
    return s('svg', { width, height, viewBox: `0 0 ${width} ${height}` }, s('rect', { width, height, fill: background }), this.#parts);
  }
}

const at = (n) => Math.round(n * 10) / 10;

// The properties of a drawing that come from the style sheet.
const properties = ['fill', 'stroke', 'stroke-width', 'stroke-dasharray', 'stroke-linecap', 'stroke-linejoin', 'stroke-opacity', 'paint-order', 'fill-opacity', 'opacity', 'font-family', 'font-size', 'font-weight', 'font-style'];

/** saveSVG downloads an SVG element that looks, without the style sheet, as it does here. */
export function saveSVG(svg, name, background) {
  const holder = document.createElement('div');
  holder.className = 'offstage';
  holder.append(svg);
  document.body.append(holder);
  // All is read before anything is changed: an element's style depends on the classes above it.
  const looks = [...svg.querySelectorAll('*')].map((el) => {
    const style = getComputedStyle(el), above = el.parentElement === svg ? null : getComputedStyle(el.parentElement);
    return [el, properties.map((p) => {
      const value = style.getPropertyValue(p);
      return [p, (p === 'opacity' ? value !== '1' : value !== above?.getPropertyValue(p)) ? value : null]; // all else is inherited
    })];
  });
  for (const [el, look] of looks) {
    for (const [p, value] of look) {
      if (value === null) el.removeAttribute(p);
      else el.setAttribute(p, value);
    }
    for (const name of ['class', 'role', 'tabindex', 'aria-label', 'data-id', 'data-seq', 'data-kind']) el.removeAttribute(name);
  }
  holder.remove();
  const [x, y, w, hgt] = (svg.getAttribute('viewBox') ?? '0 0 100 100').split(' ');
  svg.prepend(s('rect', { x, y, width: w, height: hgt, fill: background }));
  svg.setAttribute('xmlns', 'http://www.w3.org/2000/svg');
  svg.removeAttribute('class');
  save(name, 'image/svg+xml', new XMLSerializer().serializeToString(svg));
}
