/**
 * Rows of the screen as runs of pixels of one segment: there are few in a row, while it has thousands of pixels.
 *
 * Pure: no DOM here.
 */

/** Parts of a row: part n has the pixels from[n] to to[n] - 1, all of ids[n]; in order, `count` of them. */
class Runs {
  constructor(width) {
    this.from = new Int32Array(width);
    this.to = new Int32Array(width);
    this.ids = new Uint16Array(width);
    this.count = 0;
  }

  add(from, to, id) {
    if (from >= to) return;
    this.from[this.count] = from;
    this.to[this.count] = to;
    this.ids[this.count++] = id;
  }
}

/**
 * Finds the pixels around which all is of the same segment: they have no outline, and are most of a picture.
 *
 * It looks at the pixels of the screen in a square of `radius` around each.  In a label map of more pixels than the screen
 * has, what is thinner than one of them may get no outline.
 */
export class Interior {
  #kept = [];
  #found;
  #spare;

  /**
   * @param map the label map
   * @param shown by id, whether it is shown; what is not is as id 0
   * @param columns by pixel of a row, the column of the label map; -1 outside
   * @param findRow (y) -> where the row of the label map begins that is shown in a row of the screen; negative outside
   */
  constructor({ map, shown, columns, findRow, radius }) {
    Object.assign(this, { map, shown, columns, findRow, radius });
    this.#found = new Runs(columns.length);
    this.#spare = new Runs(columns.length);
  }

  /** Return the parts of a row that lie so, as Runs; they are overwritten by the next call. */
  find(y) {
    const own = this.#read(y);
    this.#found.count = 0;
    for (let at = 0; at < own.count; at++) this.#found.add(own.from[at] + this.radius, own.to[at] - this.radius, own.ids[at]);
    for (let row = y - this.radius; row <= y + this.radius; row++) {
      const other = this.#read(row);
      // Rows of the screen that show the same row of the label map have the same runs.
      if (other !== own) this.#keepCommon(other);
    }
    return this.#found;
  }

  #keepCommon(other) {
    const { radius } = this;
    const [found, common] = [this.#found, this.#spare];
    common.count = 0;
    for (let at = 0, beside = 0; at < found.count && beside < other.count; ) {
      const [from, to] = [other.from[beside] + radius, other.to[beside] - radius];
      if (found.ids[at] === other.ids[beside]) common.add(Math.max(found.from[at], from), Math.min(found.to[at], to), found.ids[at]);
      if (found.to[at] < other.to[beside]) at++;
      else beside++;
    }
    [this.#found, this.#spare] = [common, found];
  }

  #read(y) {
    const start = this.findRow(y);
    const known = this.#kept.find((one) => one.start === start);
    if (known) return known.runs;
    // Enough for the rows around one; the oldest is not needed any more.
    const runs = this.#kept.length > 2 * this.radius + 1 ? this.#kept.shift().runs : new Runs(this.columns.length);
    this.#kept.push({ start, runs });
    this.#fill(runs, start);
    return runs;
  }

  #fill(runs, start) {
    const { shown, columns } = this;
    const { ids } = this.map;
    runs.count = 0;
    let from = 0;
    let current = -1;
    for (let x = 0; x < columns.length; x++) {
      const raw = start < 0 || columns[x] < 0 ? 0 : ids[start + columns[x]];
      const id = shown[raw] ? raw : 0;
      if (id === current) continue;
      if (x) runs.add(from, x, current);
      [from, current] = [x, id];
    }
    runs.add(from, columns.length, current);
  }
}
