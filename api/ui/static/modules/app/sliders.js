/** The parameters of the segmentation; moving them recuts the photo without its model. */

import { SLIDERS, SUBTASKS } from "./parameters.js";
import { html } from "./view.js";

const NAMES = { panoptic: "Panoptic", instance: "Instance", semantic: "Semantic" };

/** @param onChange gets the members that have changed. */
export function Sliders({ parameters, subtasks = SUBTASKS, isBusy, onChange }) {
  const subtask = parameters.subtask ?? subtasks[0] ?? "panoptic";
  return html`<section class="sliders" aria-labelledby="settings-title" aria-busy=${isBusy ? "true" : "false"}>
    <div class="section-head">
      <h2 id="settings-title">Settings</h2>
      <span class=${isBusy ? "busy-dot is-busy" : "busy-dot"} aria-hidden="true"></span>
    </div>
    <${Choice} name="subtask" label="Kind of segments" value=${subtask} options=${subtasks} onChange=${onChange} />
    ${SLIDERS.map((slider) => html`<${Slider} key=${slider.name} ...${slider} value=${parameters[slider.name]} onChange=${onChange} />`)}
    ${subtask === "panoptic" && html`<${Switch} name="fuse_stuff" label="Join sky, grass and the like" value=${parameters.fuse_stuff} onChange=${onChange} />`}
    ${subtask === "instance" &&
    html`<${Switch}
      name="strict_instance_thresholds"
      label="Apply all three to instances"
      value=${parameters.strict_instance_thresholds}
      onChange=${onChange}
    />`}
  </section>`;
}

function Slider({ name, label, help, min, max, value, onChange }) {
  const shown = value.toFixed(2);
  return html`<div class="slider">
    <label for=${`slider-${name}`}>${label}</label>
    <output for=${`slider-${name}`}>${shown}</output>
    <input
      id=${`slider-${name}`}
      class="range"
      type="range"
      min=${min}
      max=${max}
      step="0.01"
      value=${value}
      aria-describedby=${`help-${name}`}
      onInput=${(event) => onChange({ [name]: Number(event.target.value) })}
    />
    <span id=${`help-${name}`} class="visually-hidden">${help}</span>
  </div>`;
}

function Choice({ name, label, value, options, onChange }) {
  return html`<fieldset class="segmented">
    <legend class="visually-hidden">${label}</legend>
    ${options.map(
      (option) => html`<label key=${option} class="segmented__item">
        <input type="radio" class="visually-hidden" name=${name} value=${option} checked=${option === value} onChange=${() => onChange({ [name]: option })} />
        ${NAMES[option] ?? option}
      </label>`,
    )}
  </fieldset>`;
}

function Switch({ name, label, value, onChange }) {
  return html`<label class="check">
    <input type="checkbox" checked=${value} onChange=${(event) => onChange({ [name]: event.target.checked })} />
    <span>${label}</span>
  </label>`;
}
