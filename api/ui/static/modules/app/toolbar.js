/** The tools of the picture: size, look, cut-out, comparison. */

import { Icon } from "./icons.js";
import { html } from "./view.js";

const BACKGROUNDS = { photo: "Photo", blur: "Blurred", gray: "Gray", transparent: "Transparent" };

export function Toolbar({ state, actions }) {
  const hasResult = Boolean(state.shown?.labels);
  const isEmpty = Boolean(state.shown?.photoFault) && !hasResult;
  return html`<div class="toolbar" role="toolbar" aria-label="Picture">
    ${!isEmpty && html`<${Zoom} viewer=${actions.viewer} />`}
    ${hasResult && html`<${Look} look=${state.look} actions=${actions} />`}
    ${hasResult && html`<${Uses} state=${state} actions=${actions} />`}
  </div>`;
}

function Zoom({ viewer }) {
  return html`<div class="group">
    <${Tool} icon="minus" label="Zoom out" onClick=${() => viewer()?.zoomBy(1 / 1.5)} />
    <${Tool} icon="plus" label="Zoom in" onClick=${() => viewer()?.zoomBy(1.5)} />
    <${Tool} icon="fit" label="Show the whole photo" onClick=${() => viewer()?.fit()} />
    <button type="button" class="tool" title="One pixel of the photo is one of the screen" onClick=${() => viewer()?.zoomToPixels()}>1:1</button>
  </div>`;
}

function Tool({ icon, label, onClick }) {
  return html`<button type="button" class="tool" aria-label=${label} title=${label} onClick=${onClick}><${Icon} name=${icon} /></button>`;
}

function Look({ look, actions }) {
  return html`<div class="group">
    <label class="inline">
      <span class="inline-text">Masks</span>
      <input
        class="range"
        type="range"
        min="0"
        max="1"
        step="0.05"
        value=${look.opacity}
        aria-label="Opacity of the masks"
        onInput=${(event) => actions.setLook({ opacity: Number(event.target.value) })}
      />
    </label>
    <label class="check inline">
      <input type="checkbox" checked=${look.outlines} onChange=${(event) => actions.setLook({ outlines: event.target.checked })} />
      <span>Outlines</span>
    </label>
    <label class="inline">
      <span class="inline-text">Background</span>
      <select class="select select--small" value=${look.background} onChange=${(event) => actions.setLook({ background: event.target.value })}>
        ${Object.entries(BACKGROUNDS).map(([value, text]) => html`<option key=${value} value=${value}>${text}</option>`)}
      </select>
    </label>
  </div>`;
}

function Uses({ state, actions }) {
  const { comparison, isolated } = state;
  const what = isolated ? "this segment" : "all segments shown";
  return html`<div class="group">
    <button type="button" class="tool wide" title=${`Save ${what} on a transparent background`} onClick=${actions.saveCutOut}>
      <${Icon} name="cut" /><span class="tool-text">Cut out</span>
    </button>
    <button type="button" class="tool wide" title=${`Copy ${what} to the clipboard`} onClick=${actions.copyCutOut}>
      <${Icon} name="copy" /><span class="tool-text">Copy</span>
    </button>
    <button
      type="button"
      class="tool wide"
      aria-pressed=${comparison ? "true" : "false"}
      title="Two settings side by side"
      onClick=${comparison ? actions.stopComparison : actions.startComparison}
    >
      <${Icon} name="compare" /><span class="tool-text">Compare</span>
    </button>
  </div>`;
}
