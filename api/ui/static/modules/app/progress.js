/** What happens to the selected photo: upload, place in the queue, stages, the end; and what to do after an error. */

import { Countdown } from "./countdown.js";
import { Icon } from "./icons.js";
import { findGroup, isUnderWay } from "./store.js";
import { describeState, formatDuration, listStages } from "./words.js";
import { html, useEffect, useRef } from "./view.js";

export function Progress({ entry, actions }) {
  const title = useRef(null);
  // What had the focus, a button of the first screen or another photo's, may be gone.
  useEffect(() => {
    if (document.activeElement === document.body) title.current.focus();
  }, [entry.key]);
  return html`<section class=${`photo-state is-${findGroup(entry.state)}`} aria-labelledby="photo-title">
    <div class="section-head">
      <h2 id="photo-title" ref=${title} tabindex="-1" title=${entry.name}>${entry.name}</h2>
      ${isUnderWay(entry) && html`<button type="button" class="button button--small" onClick=${() => actions.cancel(entry.key)}>Cancel</button>`}
    </div>
    <p class="state">
      <span class="state-text">${describeState(entry)}</span>
      ${entry.state === "succeeded" && entry.image && html`<span class="dot">${entry.image.width} × ${entry.image.height}</span>`}
    </p>
    ${entry.state === "uploading" && html`<progress class="progress" max="1" value=${entry.progress} aria-label="Upload"></progress>`}
    ${(entry.state === "queued" || entry.state === "running") && html`<progress class="progress" aria-label="Segmentation"></progress>`}
    ${entry.error && entry.repeatAt && html`<${Delay} entry=${entry} />`}
    ${entry.error && entry.state !== "waiting" && html`<${Failure} entry=${entry} actions=${actions} />`}
    <${Stages} entry=${entry} />
  </section>`;
}

/** The service does not take the photo now, and says when it will. */
function Delay({ entry }) {
  return html`<div class="delay notice notice--warning">
    <span class="notice__title">${entry.error.title}</span>
    <${Countdown} until=${entry.repeatAt} />
  </div>`;
}

function Failure({ entry, actions }) {
  const { title, detail, advice } = entry.error;
  return html`<div class="failure notice notice--error">
    <span class="notice__title">${title}</span>
    ${detail && html`<p>${detail}</p>`}
    <p>${advice}</p>
    ${entry.file && findGroup(entry.state) !== "running" && html`<button type="button" class="button button--small" onClick=${() => actions.retry(entry.key)}><${Icon} name="retry" />Try again</button>`}
  </div>`;
}

function Stages({ entry }) {
  const stages = listStages(entry);
  if (!stages.length) return null;
  return html`<details class="stages">
    <summary>Timings</summary>
    <dl>
      ${stages.map(({ name, ms }) => html`<div key=${name}><dt>${name}</dt><dd>${ms === null ? "…" : formatDuration(ms)}</dd></div>`)}
    </dl>
  </details>`;
}
