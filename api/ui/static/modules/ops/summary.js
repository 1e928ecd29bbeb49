/** The first line of the page: does all work, and what waits. */

import { addMinutes, addUp, measureBacklog } from "./activity.js";
import { html } from "./view.js";
import { formatAmount, formatCount, formatDuration, spell } from "./words.js";

const STATUS = {
  ok: ["ok", "All works"],
  degraded: ["warning", "Works in part"],
  unavailable: ["danger", "Does not work"],
};

export function ServiceStatus({ readiness }) {
  const [kind, words] = STATUS[readiness.status] ?? ["accent", readiness.status];
  return html`<span class="badge badge--${kind}">${words}</span>`;
}

/** What is wrong, by part. */
export function Problems({ readiness }) {
  const wrong = Object.entries(readiness.checks ?? {}).filter(([, verdict]) => verdict !== "ok");
  if (wrong.length === 0) return null;
  return html`<div class="notice notice--${readiness.status === "unavailable" ? "error" : "warning"}">
    <p class="notice__title">${readiness.status === "unavailable" ? "The service cannot serve" : "Results can be read, but not all else works"}</p>
    <ul class="problems">
      ${wrong.map(([name, verdict]) => html`<li key=${name}>${spell(name)}: ${verdict.replaceAll("_", " ")}</li>`)}
    </ul>
  </div>`;
}

export function Summary({ models }) {
  const backlog = measureBacklog(models);
  const hour = addUp(addMinutes(models.filter((model) => model.last_hour.length > 0)));
  const workers = models.flatMap((model) => model.workers);
  const ready = workers.filter(({ state }) => state === "ready").length;
  return html`<dl class="summary">
    <${Figure} name="Workers ready" value=${formatCount(ready)} note=${`of ${formatCount(workers.length)}`} />
    <${Figure}
      name="Jobs waiting"
      value=${formatCount(backlog.queued)}
      note=${describeBacklog(backlog)}
    />
    <${Figure} name="Done, last hour" value=${formatCount(hour.succeeded)} note=${hour.canceled ? `${formatCount(hour.canceled)} canceled` : "jobs"} />
    <${Figure} name="Failed, last hour" value=${formatCount(hour.failed)} note=${describeShare(hour)} isBad=${hour.failed > 0} />
  </dl>`;
}

function Figure({ name, value, note, isBad = false }) {
  return html`<div class="summary__item card">
    <dt class="small muted">${name}</dt>
    <dd class="summary__value figures${isBad ? " summary__value--bad" : ""}">${value}</dd>
    <dd class="small muted figures">${note}</dd>
  </div>`;
}

function describeBacklog({ delayed, oldestSeconds }) {
  const parts = [oldestSeconds === null ? "nothing waits" : `the oldest for ${formatDuration(oldestSeconds)}`];
  if (delayed) parts.push(`${formatAmount(delayed, "job")} delayed`);
  return parts.join(", ");
}

function describeShare({ failed, succeeded }) {
  if (!failed) return "jobs";
  const share = (100 * failed) / (failed + succeeded);
  return `${share < 1 ? "less than 1" : formatCount(share)} % of all`;
}
