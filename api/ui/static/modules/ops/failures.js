/** Failures with their reasons, and dead letters: jobs that no attempt could finish. */

import { readToken } from "../api.js";
import { explain } from "../errors.js";
import { addMinutes, addUp, rankErrors } from "./activity.js";
import { html, useState } from "./view.js";
import { formatAmount, formatMoment, spell } from "./words.js";

export function Failures({ models, failed }) {
  const reasons = rankErrors(addUp(addMinutes(models.filter((model) => model.last_hour.length > 0))).errors);
  return html`<section class="stack" aria-labelledby="failures-title">
    <h2 id="failures-title">Failures</h2>
    ${reasons.length === 0 && html`<p class="muted">No job has failed in the last hour.</p>`}
    ${reasons.length > 0 &&
    html`<ul role="list" class="reasons">
      ${reasons.map(([type, count]) => html`<${Reason} key=${type} type=${type} count=${count} />`)}
    </ul>`}
    ${failed.length > 0 && html`<${NewestFailures} jobs=${failed} />`}
  </section>`;
}

function Reason({ type, count }) {
  return html`<li class="row">
    <span class="badge badge--danger figures">${count}</span>
    <span>${spell(type)}</span>
  </li>`;
}

function NewestFailures({ jobs }) {
  return html`<details class="card">
    <summary>Newest failed jobs${readToken() ? " of this token" : ""}</summary>
    <ul role="list" class="jobs">
      ${jobs.map((job) => html`<li key=${job.id} class="job"><${JobFacts} job=${job} /></li>`)}
    </ul>
  </details>`;
}

/** onRedrive: gets a job, and returns the new one. */
export function DeadLetters({ jobs, onRedrive }) {
  return html`<section class="stack" aria-labelledby="dead-title">
    <div class="stack section-intro">
      <h2 id="dead-title">Dead letters</h2>
      <p class="muted">Jobs that were given up, because each worker that ran them was lost.</p>
    </div>
    ${jobs.length === 0 && html`<p class="muted">There are none.</p>`}
    ${jobs.length > 0 &&
    html`<ul role="list" class="jobs card">
      ${jobs.map((job) => html`<${DeadLetter} key=${job.id} job=${job} onRedrive=${onRedrive} />`)}
    </ul>`}
  </section>`;
}

function DeadLetter({ job, onRedrive }) {
  const [outcome, setOutcome] = useState({ kind: "none" });

  async function run() {
    setOutcome({ kind: "running" });
    try {
      setOutcome({ kind: "done", job: await onRedrive(job) });
    } catch (error) {
      setOutcome({ kind: "refused", error: explain(error) });
    }
  }

  const isRunning = outcome.kind === "running";
  return html`<li class="job">
    <${JobFacts} job=${job} />
    <div class="job__action" aria-live="polite">
      ${outcome.kind === "done"
        ? html`<p class="badge badge--ok">Queued again</p><code class="small muted job__id">${outcome.job.id}</code>`
        : html`<button type="button" class="button button--small" disabled=${isRunning} onClick=${run}>
            ${isRunning ? "Sending…" : "Run again"}<span class="visually-hidden"> job ${job.id}</span>
          </button>`}
      ${outcome.kind === "refused" && html`<p class="field__error">${outcome.error.title}. ${outcome.error.detail} ${outcome.error.advice}</p>`}
    </div>
  </li>`;
}

function JobFacts({ job }) {
  return html`<div class="job__facts">
    <p class="job__title">${job.error}</p>
    <p class="small muted figures">
      <span>${spell(job.error_type)}</span>
      <code class="job__id">${job.client_id ?? job.id}</code>
      <span>${job.model}</span>
      <span>${formatAmount(job.attempt, "attempt")}</span>
      ${job.ended_at && html`<time datetime=${job.ended_at}>${formatMoment(job.ended_at)}</time>`}
    </p>
  </div>`;
}
