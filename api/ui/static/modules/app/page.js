/** The whole page, as one function of its state. */

import { Welcome, useDroppedFiles } from "./adding.js";
import { Code } from "./code.js";
import { ComparisonHead } from "./comparing.js";
import { Downloads } from "./downloads.js";
import { Gallery } from "./gallery.js";
import { Notices } from "./notices.js";
import { Progress } from "./progress.js";
import { SegmentList } from "./segment-list.js";
import { Sliders } from "./sliders.js";
import { Stage } from "./stage.js";
import { selectedEntry } from "./store.js";
import { Toolbar } from "./toolbar.js";
import { html, useStore } from "./view.js";

export function Page({ store, actions }) {
  const state = useStore(store);
  const isOver = useDroppedFiles(actions.addFiles);
  const entry = selectedEntry(state);
  return html`<div class=${isOver ? "page is-over" : "page"}>
    <${Notices} state=${state} actions=${actions} />
    <div class=${entry ? "workspace" : "first"}>
      ${entry ? html`<${Workspace} state=${state} entry=${entry} actions=${actions} />` : html`<${Welcome} state=${state} actions=${actions} />`}
      ${(entry || state.entries.length > 0) && html`<${Gallery} state=${state} actions=${actions} />`}
    </div>
    <div class="visually-hidden" role="status" aria-live="polite">${state.announcement}</div>
    ${isOver && html`<div class="drop-veil" aria-hidden="true"><span>Drop to find its segments</span></div>`}
  </div>`;
}

function Workspace({ state, entry, actions }) {
  return html`<section class="canvas" aria-label="Picture">
      <${Toolbar} state=${state} actions=${actions} />
      <${Stage} state=${state} actions=${actions} hold=${actions.holdViewer} />
    </section>
    <aside class="side" aria-label="Result and settings">
      <${Progress} entry=${entry} actions=${actions} />
      ${entry.state === "succeeded" && state.shown?.labels && html`<${Result} state=${state} entry=${entry} actions=${actions} />`}
    </aside>`;
}

function Result({ state, entry, actions }) {
  const { shown, comparison } = state;
  const side = comparison?.side === "right" ? comparison : shown;
  const parameters = comparison?.side === "right" ? comparison.parameters : entry.parameters;
  const model = state.models.find(({ id }) => id === entry.model);
  return html`<div class="buttons exports">
      <${Downloads} entry=${entry} />
      <${Code} entry=${entry} defaultModel=${state.defaultModel} />
    </div>
    ${comparison && html`<${ComparisonHead} comparison=${comparison} models=${state.models} actions=${actions} />`}
    <${Sliders} parameters=${parameters} subtasks=${model?.subtasks} isBusy=${Boolean(side.isBusy)} onChange=${actions.setParameters} />
    <${SegmentList} segments=${side.segments ?? []} size=${side.labels} state=${state} actions=${actions} />`;
}
