/** Which side of a comparison the sliders set, and with which model it was computed. */

import { listServed } from "./models.js";
import { html } from "./view.js";

export function ComparisonHead({ comparison, models, actions }) {
  const served = listServed(models, comparison.model);
  return html`<section class="comparison" aria-label="Comparison">
    <fieldset class="segmented">
      <legend class="visually-hidden">Side that the settings change</legend>
      ${["left", "right"].map(
        (side) => html`<label key=${side} class="segmented__item">
          <input type="radio" class="visually-hidden" name="side" checked=${comparison.side === side} onChange=${() => actions.setSide(side)} />
          ${side === "left" ? "Left side" : "Right side"}
        </label>`,
      )}
    </fieldset>
    ${served.length > 1 &&
    html`<label class="inline">
      <span>Model on the right</span>
      <select class="select select--small" value=${comparison.model} onChange=${(event) => actions.setComparedModel(event.target.value)}>
        ${served.map(({ id }) => html`<option key=${id} value=${id}>${id}</option>`)}
      </select>
    </label>`}
  </section>`;
}
