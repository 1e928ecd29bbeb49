/** The model of the photos that are added next; where one is served, there is nothing to choose. */

import { html } from "./view.js";

/** Return the models that can be chosen: those that are ready, and the one that is. */
export function listServed(models, chosen) {
  return models.filter(({ id, state }) => state === "ready" || id === chosen);
}

export function ModelChoice({ state, actions }) {
  const chosen = state.model ?? state.defaultModel;
  const served = listServed(state.models, chosen);
  if (served.length < 2) return null;
  return html`<label class="inline">
    <span>Model</span>
    <select class="select select--small" aria-label="Model for new photos" value=${chosen} onChange=${(event) => actions.setModel(event.target.value)}>
      ${served.map(({ id }) => html`<option key=${id} value=${id}>${id}</option>`)}
    </select>
  </label>`;
}
