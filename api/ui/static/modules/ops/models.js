/** Each model with its workers and queues. */

import { html } from "./view.js";
import { formatCount, formatDuration, formatFigure, spell } from "./words.js";

const KIND = { ready: "ok", loading: "warning", draining: "warning", setup_failed: "danger", offline: "danger" };
const HINT = {
  offline: "No worker serves this model now. Jobs for it wait until one is started.",
  loading: "A worker is loading this model.",
  setup_failed: "No worker could load this model.",
};

export function Models({ models }) {
  return html`<section class="stack" aria-labelledby="models-title">
    <h2 id="models-title">Models and workers</h2>
    ${models.length === 0 &&
    html`<p class="notice"><span class="notice__title">No worker has been here yet</span>
      Start one: jobs that are submitted meanwhile wait for it.</p>`}
    ${models.map((model) => html`<${Model} key=${model.id} model=${model} />`)}
  </section>`;
}

function Model({ model }) {
  return html`<article class="card stack" aria-label=${model.id}>
    <div class="row section-head">
      <h3 class="model__name">${model.id}</h3>
      <${State} state=${model.state} />
      ${model.images_per_second !== null &&
      html`<span class="small muted figures model__rate">up to ${formatFigure(model.images_per_second)} images a second</span>`}
    </div>
    ${HINT[model.state] && html`<p class="muted">${HINT[model.state]}</p>`}
    <div class="model__tables">
      <${Workers} model=${model} />
      <${Queues} model=${model} />
    </div>
  </article>`;
}

function State({ state }) {
  return html`<span class="badge badge--${KIND[state] ?? "accent"}">${spell(state)}</span>`;
}

function Workers({ model }) {
  if (model.workers.length === 0) return html`<p class="muted">No workers.</p>`;
  return html`<ul role="list" class="workers" aria-label="Workers of ${model.id}">
    ${model.workers.map((worker) => html`<${Worker} key=${worker.id} worker=${worker} />`)}
  </ul>`;
}

function Worker({ worker }) {
  return html`<li class="worker">
    <p class="row worker__head"><code>${worker.name ?? worker.id.slice(0, 8)}</code><${State} state=${worker.state} /></p>
    <p class="small muted figures">${describeWorker(worker).join(" · ")}</p>
    ${worker.reason && html`<p class="small worker__reason">${worker.reason}</p>`}
  </li>`;
}

function describeWorker({ device, forward, agreement, load_seconds: seconds }) {
  return [
    device,
    forward && (agreement === null ? `${forward} pass` : `${forward} pass, ${formatFigure(100 * agreement)} % as exact`),
    seconds !== null && `loaded in ${formatDuration(seconds)}`,
  ].filter(Boolean);
}

function Queues({ model }) {
  if (model.queues.length === 0) return null;
  return html`<div class="table-box" tabindex="0" role="region" aria-label="Queues of ${model.id}">
    <table class="table">
      <caption class="visually-hidden">Queues of ${model.id}</caption>
      <thead>
        <tr>
          <th scope="col">Priority</th>
          <th scope="col" class="number">Waiting</th>
          <th scope="col" class="number">Oldest</th>
          <th scope="col" class="number">Delayed</th>
          <th scope="col" class="number">Alone</th>
        </tr>
      </thead>
      <tbody>
        ${model.queues.map((queue) => html`<${Queue} key=${queue.priority} queue=${queue} />`)}
      </tbody>
    </table>
  </div>`;
}

function Queue({ queue }) {
  return html`<tr>
    <th scope="row">${spell(queue.priority)}</th>
    <td class="number">${formatCount(queue.queued)}</td>
    <td class="number">${queue.oldest_seconds === null ? "–" : formatDuration(queue.oldest_seconds)}</td>
    <td class="number">${formatCount(queue.delayed)}</td>
    <td class="number">${formatCount(queue.suspects)}</td>
  </tr>`;
}
