// Shows what a program wrote to a terminal: colours, progress bars that update in place. Text stays text.

const KEPT_LINES = 5000;
/** How far up a program may still rewrite; nested progress bars use a few lines. */
const LIVE_LINES = 64;
const LINE_LIMIT = 4000;
const ESCAPE = /\x1b(?:\[([0-9;:?<=>]*)[ -/]*([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)|[()*+][A-Za-z0-9]|[ -/]*[0-~])/y;
/** An escape whose end is not there yet. */
const UNFINISHED = /\x1b(?:\[[0-9;:?<=> -/]*|\][^\x07\x1b]*\x1b?|[()*+ -/]*)?$/;

const PLAIN = { key: '', classes: '', colour: '', background: '' };

function cube(index) {
  if (index < 232) {
    const level = (value) => (value ? value * 40 + 55 : 0);
    const rest = index - 16;
    return `rgb(${level(Math.floor(rest / 36))},${level(Math.floor(rest / 6) % 6)},${level(rest % 6)})`;
  }
  const grey = (index - 232) * 10 + 8;
  return `rgb(${grey},${grey},${grey})`;
}

/** The attributes of text, from the numbers of `ESC [ … m`. */
class Attributes {
  constructor() { this.reset(); }

  reset() {
    this.flags = { b: false, d: false, i: false, u: false, s: false };
    this.front = null;
    this.back = null;
    this.inverse = false;
  }

  apply(parameters) {
    const codes = parameters.split(/[;:]/).map((code) => Number(code || 0));
    for (let at = 0; at < codes.length; at += 1) {
      const code = codes[at];
      if (code === 0) this.reset();
      else if (code === 1) this.flags.b = true;
      else if (code === 2) this.flags.d = true;
      else if (code === 3) this.flags.i = true;
      else if (code === 4) this.flags.u = true;
      else if (code === 7) this.inverse = true;
      else if (code === 9) this.flags.s = true;
      else if (code === 22) { this.flags.b = false; this.flags.d = false; }
      else if (code === 23) this.flags.i = false;
      else if (code === 24) this.flags.u = false;
      else if (code === 27) this.inverse = false;
      else if (code === 29) this.flags.s = false;
      else if (code >= 30 && code <= 37) this.front = code - 30;
      else if (code >= 90 && code <= 97) this.front = code - 82;
      else if (code === 39) this.front = null;
      else if (code >= 40 && code <= 47) this.back = code - 40;
      else if (code >= 100 && code <= 107) this.back = code - 92;
      else if (code === 49) this.back = null;
      else if (code === 38 || code === 48) {
        let colour = null;
        if (codes[at + 1] === 5) {
          const index = codes[at + 2] & 255;
          colour = index < 16 ? index : cube(index);
          at += 2;
        } else if (codes[at + 1] === 2) {
          colour = `rgb(${codes.slice(at + 2, at + 5).map((part) => part & 255).join(',')})`;
          at += 4;
        }
        if (code === 38) this.front = colour; else this.back = colour;
      }
    }
  }

  style() {
    const [front, back] = this.inverse ? [this.back ?? 'var(--log-bg)', this.front ?? 'var(--log-text)'] : [this.front, this.back];
    const classes = Object.keys(this.flags).filter((flag) => this.flags[flag]);
    if (typeof front === 'number') classes.push(`f${front}`);
    const colour = typeof front === 'string' ? front : '';
    const background = typeof back === 'number' ? PALETTE[back] : back ?? '';
    const key = `${classes.join(' ')}|${colour}|${background}`;
    return key === '||' ? PLAIN : { key, classes: classes.join(' '), colour, background };
  }
}

const PALETTE = ['#2a3244', '#a33b45', '#2d7a54', '#8a6a24', '#3a5cae', '#7a4aa8', '#2a7480', '#aab3c6', '#4a556e', '#d05a66', '#3f9c70', '#b48d3a', '#5a80d6', '#9c68cc', '#3c98a6', '#e6ebf5'];

export class Terminal {
  constructor(node) {
    this.node = node;
    this.attributes = new Attributes();
    this.style = PLAIN;
    this.pending = '';
    this.clear();
  }

  clear() {
    this.node.replaceChildren();
    this.lines = [];
    this.dirty = new Set();
    this.removed = [];
    this.row = 0;
    this.column = 0;
    this.addLine();
  }

  addLine(kind = '') {
    const line = { text: [], styles: [], node: null, kind };
    this.lines.push(line);
    this.dirty.add(line);
    if (this.lines.length > LIVE_LINES) {
      const settled = this.lines[this.lines.length - 1 - LIVE_LINES];
      settled.settled = true;
    }
    while (this.lines.length > KEPT_LINES) {
      const gone = this.lines.shift();
      this.dirty.delete(gone);
      if (gone.node) this.removed.push(gone.node);
    }
    return line;
  }

  /** A remark of the page's own between the lines. */
  note(text) {
    const last = this.lines[this.lines.length - 1];
    const line = last.text.length ? this.addLine('note') : last;
    line.kind = 'note';
    line.text = [...text];
    line.styles = line.text.map(() => PLAIN);
    this.dirty.add(line);
    this.row = this.lines.length;
    this.addLine();
    this.row = this.lines.length - 1;
    this.column = 0;
  }

  write(chunk) {
    const text = this.pending + chunk;
    this.pending = '';
    let line = this.lines[this.row];
    for (let at = 0; at < text.length;) {
      const character = text[at];
      if (character === '\x1b') {
        ESCAPE.lastIndex = at;
        const match = ESCAPE.exec(text);
        if (match) {
          at = ESCAPE.lastIndex;
          if (match[2]) this.control(match[1], match[2]);
          line = this.lines[this.row];
          continue;
        }
        if (text.length - at < 200 && UNFINISHED.test(text.slice(at))) {
          this.pending = text.slice(at);
          return;
        }
        at += 1;
        continue;
      }
      if (character === '\n') {
        this.newline();
        line = this.lines[this.row];
        at += 1;
      } else if (character === '\r') {
        this.column = 0;
        at += 1;
      } else if (character === '\b') {
        this.column = Math.max(0, this.column - 1);
        at += 1;
      } else if (character < ' ' && character !== '\t') {
        at += 1;
      } else {
        const code = text.codePointAt(at);
        const length = code > 0xffff ? 2 : 1;
        if (this.column >= LINE_LIMIT) {
          this.newline();
          line = this.lines[this.row];
        }
        while (line.text.length < this.column) {
          line.text.push(' ');
          line.styles.push(PLAIN);
        }
        line.text[this.column] = length === 1 ? character : text.slice(at, at + 2);
        line.styles[this.column] = this.style;
        this.column += 1;
        this.dirty.add(line);
        at += length;
      }
    }
  }

  newline() {
    this.row += 1;
    if (this.row >= this.lines.length) {
      this.addLine();
      this.row = this.lines.length - 1;
    }
    this.column = 0;
  }

  control(parameters, kind) {
    const count = Math.max(1, parseInt(parameters, 10) || 1);
    const lowest = Math.max(0, this.lines.length - LIVE_LINES);
    if (kind === 'm') {
      this.attributes.apply(parameters);
      this.style = this.attributes.style();
    } else if (kind === 'A' || kind === 'F') {
      this.row = Math.max(lowest, this.row - count);
      if (kind === 'F') this.column = 0;
    } else if (kind === 'B' || kind === 'E') {
      this.row = Math.min(this.lines.length - 1, this.row + count);
      if (kind === 'E') this.column = 0;
    } else if (kind === 'C') this.column = Math.min(LINE_LIMIT - 1, this.column + count);
    else if (kind === 'D') this.column = Math.max(0, this.column - count);
    else if (kind === 'G') this.column = Math.min(LINE_LIMIT - 1, count - 1);
    else if (kind === 'K') this.erase(parseInt(parameters, 10) || 0);
  }

  erase(what) {
    const line = this.lines[this.row];
    if (what === 0) {
      line.text.length = Math.min(line.text.length, this.column);
      line.styles.length = line.text.length;
    } else {
      const end = what === 2 ? line.text.length : Math.min(line.text.length, this.column + 1);
      for (let at = 0; at < end; at += 1) { line.text[at] = ' '; line.styles[at] = PLAIN; }
    }
    this.dirty.add(line);
  }

  /** Brings the page up to date; `matches(text)` says which lines a search finds. */
  flush(matches) {
    this.removed.forEach((node) => node.remove());
    this.removed = [];
    const fresh = document.createDocumentFragment();
    for (const line of this.dirty) {
      if (!line.node) {
        line.node = document.createElement('div');
        fresh.append(line.node);
      }
      this.draw(line);
      line.node.className = `l ${line.kind} ${matches && matches(line.node.textContent) ? 'hit' : ''}`;
    }
    this.dirty.clear();
    this.node.append(fresh);
    for (const line of this.lines) {
      if (!line.settled) break;
      // What scrolled away is not written again: the page's copy is enough.
      if (line.text.length && line.node) { line.text = []; line.styles = []; } else if (!line.text.length) continue;
    }
  }

  draw(line) {
    line.node.replaceChildren();
    for (let at = 0; at < line.text.length;) {
      const style = line.styles[at];
      let end = at + 1;
      while (end < line.text.length && line.styles[end].key === style.key) end += 1;
      const text = line.text.slice(at, end).join('');
      if (style === PLAIN) {
        line.node.append(text);
      } else {
        const span = document.createElement('span');
        span.className = style.classes;
        if (style.colour) span.style.color = style.colour;
        if (style.background) span.style.backgroundColor = style.background;
        span.textContent = text;
        line.node.append(span);
      }
      at = end;
    }
  }
}
