/** The segments beside the picture: sorted, filtered by label, lit up and isolated. */

import { ORDERS, countLabels, filterSegments, formatScore, formatShare, nameSegments, readLabel, sortSegments } from "./segments.js";
import { html, useMemo, useRef } from "./view.js";

/** @param segments those of the side of a comparison that is set, or of the picture */
export function SegmentList({ segments, size, state, actions }) {
  const { list, isolated, highlighted } = state;
  const labels = useMemo(() => countLabels(segments), [segments]);
  const names = useMemo(() => nameSegments(segments), [segments]);
  const shown = useMemo(() => sortSegments(filterSegments(segments, list.labels), list.order), [segments, list]);
  const area = size.width * size.height;
  // Not compared again while a slider moves or an upload goes on.
  const rows = useMemo(
    () => html`<${Rows} segments=${shown} names=${names} area=${area} lit=${highlighted} isolated=${isolated} actions=${actions} />`,
    [shown, names, area, highlighted, isolated, actions],
  );
  return html`<section class="segments" aria-labelledby="segments-title">
    <div class="section-head">
      <h2 id="segments-title">
        <span class="count">${shown.length}</span> ${shown.length === 1 ? "segment" : "segments"}
      </h2>
      <label class="order">
        <span class="visually-hidden">Order of the segments</span>
        <select class="select select--small" value=${list.order} onChange=${(event) => actions.setList({ order: event.target.value })}>
          ${Object.entries(ORDERS).map(([value, text]) => html`<option key=${value} value=${value}>${text}</option>`)}
        </select>
      </label>
    </div>
    ${labels.length > 1 && html`<${LabelFilter} labels=${labels} chosen=${list.labels} actions=${actions} />`}
    ${segments.length === 0 && html`<p class="muted small">Nothing reaches these settings. Move the threshold down.</p>`}
    ${rows}
  </section>`;
}

function LabelFilter({ labels, chosen, actions }) {
  function toggle(label) {
    const next = new Set(chosen);
    if (!next.delete(label)) next.add(label);
    actions.setList({ labels: next });
  }
  return html`<div class="label-filter" role="group" aria-label="Show only these labels">
    ${labels.map(
      ({ label, count }) => html`<button
        key=${label}
        type="button"
        title=${label}
        class="chip"
        aria-pressed=${chosen.has(label) ? "true" : "false"}
        onClick=${() => toggle(label)}
      >
        ${readLabel(label)}${count > 1 && html`<span class="chip-count">${count}</span>`}
      </button>`,
    )}
  </div>`;
}

function Rows({ segments, names, area, lit, isolated, actions }) {
  const rows = useRef(null);
  // One row is in the order of the Tab key; the arrow keys go to the others.
  const current = segments.find(({ id }) => id === lit) ?? segments.find(({ id }) => id === isolated) ?? segments[0];

  function move(event) {
    const buttons = [...rows.current.querySelectorAll("button")];
    const at = buttons.indexOf(document.activeElement);
    const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: buttons.length - 1 }[event.key];
    if (next === undefined || !buttons[next]) return;
    event.preventDefault();
    buttons[next].focus();
  }

  return html`<ul role="list" class="segment-list" ref=${rows} onKeyDown=${move} onMouseLeave=${() => actions.highlight(null)}>
    ${segments.map(
      // By place: after a recut an id is another thing, and rows that change places are laid out anew.
      (one, place) => html`<li key=${place}>
        <button
          type="button"
          class=${nameClasses(one, lit)}
          title=${one.area === 0 ? "Other segments cover all of it. Its own mask is in the files." : undefined}
          aria-pressed=${one.id === isolated ? "true" : "false"}
          tabindex=${one === current ? 0 : -1}
          data-segment=${one.id}
          onMouseEnter=${() => actions.highlight(one.id)}
          onFocus=${() => actions.highlight(one.id)}
          onBlur=${() => actions.highlight(null)}
          onClick=${() => actions.isolate(one.id === isolated ? null : one.id)}
        >
          <span class="swatch" style=${{ backgroundColor: `rgb(${one.color.join(" ")})` }}></span>
          <span class="segment-name">${names.get(one.id)}</span>
          <span class="segment-share">${formatShare(one.area, area)}</span>
          <span class="segment-score">${formatScore(one.score)}</span>
        </button>
      </li>`,
    )}
  </ul>`;
}

function nameClasses({ id, area }, lit) {
  return ["segment", id === lit && "is-lit", area === 0 && "is-covered"].filter(Boolean).join(" ");
}
