/** What the page asks of the service. */

import { callJson } from "../api.js";

const MOST_JOBS = 20;

/** Return whether all works: { status, checks }; a service that cannot serve answers 503, and says why in the same form. */
async function readReadiness(options) {
  try {
    return await callJson("readyz", options);
  } catch (error) {
    if (!error.details?.status) throw error;
    return error.details;
  }
}

/** Return models with their workers, queues and last hour, and whether all works. */
export async function readFleet(options) {
  const [{ models }, queue, readiness] = await Promise.all([
    callJson("v1/models", options),
    callJson("v1/queue", options),
    readReadiness(options),
  ]);
  const queues = new Map(queue.models.map((one) => [one.model, one]));
  const empty = { queues: [], last_hour: [], images_per_second: null };
  return { readiness, models: models.map((model) => ({ ...empty, ...queues.get(model.id), ...model })) };
}

/** Return the newest failed jobs of the token, and those that no attempt could finish. */
export async function readFailures(options) {
  const [failed, dead] = await Promise.all([
    callJson(`v1/jobs?state=failed&limit=${MOST_JOBS}`, options),
    callJson(`v1/jobs?state=failed&error_type=attempts_exhausted&limit=${MOST_JOBS}`, options),
  ]);
  return { failed: failed.jobs, dead: dead.jobs };
}

/** Run a failed job again, and return the new job. */
export function redrive(jobId) {
  return callJson(`v1/jobs/${jobId}/redrive`, { method: "POST" });
}
