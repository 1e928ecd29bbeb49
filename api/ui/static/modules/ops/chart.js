/** A chart of the last hour, by minute: bars for the eye, a sentence and a table for everybody else. */

import { roundUp } from "./activity.js";
import { html, useId, useState } from "./view.js";
import { formatClock } from "./words.js";

const BAR = 10;
const GAP = 2;
const HEIGHT = 100;

/**
 * values: one of each minute, oldest first; null is no value.  format: a value as text.  total: the figure of the hour,
 * and note: what it is.  kind: "accent" or "danger".
 */
export function MinuteChart({ title, total, note, minutes, values, format, kind = "accent" }) {
  const id = useId();
  const [chosen, choose] = useState(null);
  const known = values.filter((value) => value !== null);
  const end = roundUp(Math.max(0, ...known));
  const summary = describe(title, minutes, values, format);

  return html`<figure class="chart card">
    <figcaption class="chart__caption">
      <h3 class="chart__title">${title}</h3>
      <p class="chart__total figures">${total}</p>
      <p class="chart__reading figures small muted" aria-hidden="true">
        ${chosen === null ? note : `${formatClock(minutes[chosen].at)}: ${values[chosen] === null ? "none" : format(values[chosen])}`}
      </p>
    </figcaption>
    <div class="chart__plot">
      <span class="chart__end figures" aria-hidden="true">${format(end)}</span>
      <svg
        class="chart__bars chart__bars--${kind}"
        viewBox="0 0 ${BAR * values.length} ${HEIGHT}"
        preserveAspectRatio="none"
        role="img"
        aria-labelledby="${id}-title ${id}-summary"
        onPointerMove=${(event) => choose(findBar(event, values.length))}
        onPointerLeave=${() => choose(null)}
      >
        <title id="${id}-title">${title}</title>
        <desc id="${id}-summary">${summary}</desc>
        ${values.map((value, index) => html`<${Bar} key=${index} index=${index} share=${(value ?? 0) / end} isChosen=${index === chosen} />`)}
      </svg>
    </div>
    <p class="chart__axis figures small muted" aria-hidden="true">
      <span>${minutes.length ? formatClock(minutes[0].at) : ""}</span><span>now</span>
    </p>
    <${MinuteTable} title=${title} minutes=${minutes} values=${values} format=${format} />
  </figure>`;
}

function Bar({ index, share, isChosen }) {
  // A value that is not zero can be seen, however small it is.
  const height = share ? Math.max(2, share * HEIGHT) : 0;
  const classes = `bar${isChosen ? " bar--chosen" : ""}`;
  return html`<g>
    <rect class="bar__field${isChosen ? " bar__field--chosen" : ""}" x=${index * BAR} y="0" width=${BAR} height=${HEIGHT} />
    <rect class=${classes} x=${index * BAR + GAP / 2} y=${HEIGHT - height} width=${BAR - GAP} height=${height} />
  </g>`;
}

/** The rows of minutes in which something happened, the newest first. */
function MinuteTable({ title, minutes, values, format }) {
  const [isOpen, setOpen] = useState(false);
  const rows = isOpen ? minutes.map(({ at }, index) => [at, values[index]]).filter(([, value]) => value).reverse() : [];
  return html`<details class="chart__table" onToggle=${(event) => setOpen(event.currentTarget.open)}>
    <summary class="small">As a table<span class="visually-hidden">: ${title}</span></summary>
    ${rows.length === 0 && html`<p class="small muted">Nothing in the last hour.</p>`}
    ${rows.length > 0 &&
    html`<div class="table-box chart__rows" tabindex="0" role="region" aria-label="${title}, by minute">
      <table class="table small">
        <thead><tr><th scope="col">Minute</th><th scope="col" class="number">${title}</th></tr></thead>
        <tbody>
          ${rows.map(([at, value]) => html`<tr key=${at}><th scope="row">${formatClock(at)}</th><td class="number">${format(value)}</td></tr>`)}
        </tbody>
      </table>
    </div>`}
  </details>`;
}

function describe(title, minutes, values, format) {
  const highest = values.reduce((best, value, index) => ((value ?? 0) > (values[best] ?? 0) ? index : best), 0);
  if (!values[highest]) return `${title} in the last hour: none.`;
  return `${title} in the last hour, by minute. The highest is ${format(values[highest])}, at ${formatClock(minutes[highest].at)}.`;
}

function findBar(event, count) {
  const { left, width } = event.currentTarget.getBoundingClientRect();
  return Math.min(count - 1, Math.max(0, Math.floor(((event.clientX - left) / width) * count)));
}
