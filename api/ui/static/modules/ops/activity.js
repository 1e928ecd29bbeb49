/** Sums over models and minutes, from the answer of /v1/queue.  No DOM here. */

/** Return the minutes of these models together: the same 60 of each, oldest first. */
export function addMinutes(models) {
  const [first, ...others] = models.map((model) => model.last_hour);
  if (!first) return [];
  return first.map((minute, index) => others.reduce((sum, hour) => addTwo(sum, hour[index]), readMinute(minute)));
}

function addTwo(sum, minute) {
  const one = readMinute(minute);
  const images = sum.images + one.images;
  return {
    at: sum.at,
    succeeded: sum.succeeded + one.succeeded,
    failed: sum.failed + one.failed,
    canceled: sum.canceled + one.canceled,
    images,
    batchSize: images ? ((sum.batchSize ?? 0) * sum.images + (one.batchSize ?? 0) * one.images) / images : null,
    errors: addErrors(sum.errors, one.errors),
  };
}

// A job that is not done in time has failed for the one who waits for it.
function readMinute({ at, succeeded, failed, expired, canceled, images, mean_batch_size: batchSize, errors }) {
  return { at, succeeded, failed: failed + expired, canceled, images, batchSize, errors };
}

function addErrors(some, more) {
  const sums = { ...some };
  for (const [type, count] of Object.entries(more)) sums[type] = (sums[type] ?? 0) + count;
  return sums;
}

/** Return the totals of minutes; batchSize: null without an image. */
export function addUp(minutes) {
  const add = (name) => minutes.reduce((sum, minute) => sum + minute[name], 0);
  const images = add("images");
  const weighted = minutes.reduce((sum, { images: count, batchSize }) => sum + count * (batchSize ?? 0), 0);
  return {
    succeeded: add("succeeded"),
    failed: add("failed"),
    canceled: add("canceled"),
    images,
    batchSize: images ? weighted / images : null,
    errors: minutes.reduce((sum, { errors }) => addErrors(sum, errors), {}),
  };
}

/** Return reasons of failures, the most frequent first: [[error_type, count], ...]. */
export function rankErrors(errors) {
  return Object.entries(errors).sort(([one, count], [other, otherCount]) => otherCount - count || one.localeCompare(other));
}

/** Return what waits in all queues: { queued, delayed, oldestSeconds }; oldestSeconds: null if nothing does. */
export function measureBacklog(models) {
  const queues = models.flatMap((model) => model.queues);
  const ages = queues.map((queue) => queue.oldest_seconds).filter((age) => age !== null);
  return {
    queued: queues.reduce((sum, { queued }) => sum + queued, 0),
    delayed: queues.reduce((sum, { delayed }) => sum + delayed, 0),
    oldestSeconds: ages.length ? Math.max(...ages) : null,
  };
}

/** Return the upper end of an axis: 1, 2 or 5 times a power of ten, at least `least`. */
export function roundUp(value, least = 1) {
  const power = 10 ** Math.floor(Math.log10(Math.max(value, least)));
  return [1, 2, 5, 10].map((step) => step * power).find((end) => end >= Math.max(value, least));
}
