/** The page for operators: state of the service, its last hour, and what has failed. */

import { readToken } from "../api.js";
import { explain } from "../errors.js";
import { DeadLetters, Failures } from "./failures.js";
import { LastHour } from "./hour.js";
import { Models } from "./models.js";
import { startPolling } from "./polling.js";
import { readFailures, readFleet, redrive } from "./service.js";
import { Problems, ServiceStatus, Summary } from "./summary.js";
import { ForgetToken, TokenForm } from "./token.js";
import { html, render, useEffect, useState } from "./view.js";
import { formatClock } from "./words.js";

const FLEET_MS = 2000;
const FAILURES_MS = 10_000;
const NOTHING = { fleet: null, failures: { failed: [], dead: [] }, at: null, error: null };

function Operations() {
  const [state, setState] = useState(NOTHING);
  const [isPaused, setPaused] = useState(false);
  // Counts the tokens that were entered, so that each starts the calls anew.
  const [round, setRound] = useState(0);
  const [needsToken, setNeedsToken] = useState(false);

  useEffect(() => {
    if (isPaused || needsToken) return undefined;
    const set = (facts) => setState((known) => ({ ...known, error: null, ...facts }));
    const onError = (error) => (error.status === 401 ? setNeedsToken(true) : setState((known) => ({ ...known, error })));
    const fleet = async (signal) => set({ fleet: await readFleet({ signal }), at: Date.now() });
    const failures = async (signal) => set({ failures: await readFailures({ signal }) });
    const polls = [
      startPolling(fleet, { intervalMs: FLEET_MS, onError }),
      startPolling(failures, { intervalMs: FAILURES_MS, onError }),
    ];
    return () => polls.forEach((poll) => poll.stop());
  }, [isPaused, needsToken, round]);

  function restart() {
    setState(NOTHING);
    setNeedsToken(false);
    setRound(round + 1);
  }

  return html`<div class="ops stack">
    <div class="stack">
      <div class="row ops__head">
        <h1>Operations</h1>
        ${state.fleet && !needsToken && html`<${ServiceStatus} readiness=${state.fleet.readiness} />`}
        <div class="row ops__live">
          <${ForgetToken} onForget=${restart} />
          ${!needsToken && state.at && html`<${Live} at=${state.at} isPaused=${isPaused} onToggle=${() => setPaused(!isPaused)} />`}
        </div>
      </div>
      <div aria-live="polite">${state.error && !needsToken && html`<${Trouble} error=${state.error} />`}</div>
      ${!needsToken && state.fleet && html`<${Problems} readiness=${state.fleet.readiness} />`}
    </div>
    ${needsToken && html`<${TokenForm} isRefused=${readToken() !== ""} onToken=${restart} />`}
    ${!needsToken && state.fleet && html`<${Facts} state=${state} />`}
    ${!needsToken && !state.fleet && !state.error && html`<p class="muted">Loading…</p>`}
  </div>`;
}

function Facts({ state }) {
  const { models } = state.fleet;
  return html`<${Summary} models=${models} />
    <${LastHour} models=${models} />
    <${Models} models=${models} />
    <${Failures} models=${models} failed=${state.failures.failed} />
    <${DeadLetters} jobs=${state.failures.dead} onRedrive=${(job) => redrive(job.id)} />`;
}

function Live({ at, isPaused, onToggle }) {
  return html`<span class="small muted figures">${isPaused ? "Paused, as of" : "Live, as of"} ${formatClock(at)}</span>
    <button type="button" class="button button--small" onClick=${onToggle}>${isPaused ? "Go on" : "Pause"}</button>`;
}

function Trouble({ error }) {
  const { title, detail, advice } = explain(error);
  return html`<div class="notice notice--error">
    <p class="notice__title">${title}</p>
    <p>${detail} ${advice}</p>
  </div>`;
}

render(html`<${Operations} />`, document.getElementById("ops"));
