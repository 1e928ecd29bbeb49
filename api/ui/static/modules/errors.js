/** Errors in plain words: what has happened, and what to do about it.  No DOM here. */

// By `error_type`: a title, and what to do.  Of any other error, the sentence of the service is shown.
const BY_TYPE = {
  unreachable: ["The server does not answer", "This page tries again by itself. Check that the server is running and that you are online."],
  unauthorized: ["The token is missing or wrong", "Enter the token that the operator of this service gave you."],
  missing_scope: ["This token may not do that", "Use a token with the scope that is named, or ask the operator for one."],
  not_an_image: ["This file is not a photo that can be read", "Choose a JPEG, PNG, WebP, AVIF, HEIC, GIF, BMP or TIFF file."],
  truncated_image: ["The photo is incomplete", "The file stops before its end. Copy or download it again, then add it once more."],
  body_too_large: ["The file is too large", "Make the photo smaller, or save it as JPEG, then add it again."],
  image_too_large: ["The photo has too many pixels", "Scale it down, then add it again."],
  image_too_narrow: ["The photo is too narrow", "Choose a photo whose shorter side has more pixels."],
  too_many_corners: ["The segments have too many corners for polygons", "Choose a file of masks, such as labels.png or coco.json."],
  queue_full: ["The queue is full", "Wait a moment, then try again."],
  quota_exceeded: ["Your quota is used up", "Wait, or ask the operator for more."],
  too_many_requests: ["Too many requests", "Wait a moment, then go on."],
  recut_gone: ["The sliders no longer work on this photo", "What they need is kept for a limited time. Add the photo again to change its settings."],
  recut_unsupported: ["This model has no sliders", "Its results cannot be changed afterwards. Set the parameters before you add a photo."],
  threshold_below_floor: ["The threshold is too low", "Segments with lower scores were not kept. Move the slider up."],
  all_queries_needed: ["This photo cannot be shown as semantic", "Add the photo again with the kind set to semantic."],
  gone: ["This is not kept any more", "Add the photo again."],
  image_gone: ["The photo is not kept any more", "Files that show the photo cannot be made now. Add the photo again."],
  unknown_job: ["This photo is not there any more", "It was deleted, or it belongs to another token. Add it again."],
  unknown_host: ["The server does not know this address", "Open the page under the address that the operator gave you."],
  foreign_origin: ["This page may not use the service", "Open the page that the service itself shows."],
  attempts_exhausted: ["The photo could not be processed", "The workers failed on it several times. Try another photo, or tell the operator."],
  canceled: ["Canceled", "Add the photo again if you need it."],
  renderer_unavailable: ["Nothing is free to make this file", "Wait a moment, then try again."],
  nothing_to_cut_out: ["There is nothing to cut out", "Choose a segment that is seen in the photo."],
  model_not_ready: ["The model is not ready", "It is still loading. Wait a moment, then try again."],
};
// The body of a submission from the page is the file alone.
BY_TYPE.unreadable_body = BY_TYPE.not_an_image;
BY_TYPE.empty_body = BY_TYPE.not_an_image;
// Errors whose title and advice are complete: the sentence of the service would add only terms.
const COMPLETE = new Set(["unreachable", "not_an_image", "unreadable_body", "empty_body"]);
const SERVER_FAULT = "Try again. If it happens again, tell the operator.";

/**
 * Return { title, detail, advice, waitSeconds }: a title, the sentence of the service where it adds something, what to
 * do, and after how many seconds a repetition is worth it (null: unknown).
 */
export function explain(error) {
  const [title, advice] = BY_TYPE[error.errorType] ?? describeByStatus(error);
  const detail = COMPLETE.has(error.errorType) || error.message === title ? "" : (error.message ?? "");
  const waitSeconds = error.status === 429 || error.status === 503 ? (error.retryAfterSeconds ?? null) : null;
  return { title, detail, advice: addWait(advice, waitSeconds), waitSeconds };
}

/** Return the error of a job that has ended without a result, in the same form. */
export function explainFailure(job) {
  if (job.state === "expired") {
    return { title: "Not done in time", detail: job.error ?? "", advice: "Add the photo again.", waitSeconds: null };
  }
  return explain({ errorType: job.error_type ?? job.state, status: 500, message: job.error ?? "" });
}

/** Return an explanation as one sentence after the other, for a screen reader. */
export function speak({ title, detail, advice }) {
  return [title, detail, advice]
    .filter(Boolean)
    .map((text) => (/[.!?]$/.test(text) ? text : `${text}.`))
    .join(" ");
}

function describeByStatus({ status, name }) {
  if (status === 429) return ["The service is busy", "Wait a moment, then try again."];
  if (status === 503 || status === 504) return ["The service is not ready", "Wait a moment, then try again."];
  if (status >= 400 && status < 500) return ["The service does not accept this", "Change what the message names, then try again."];
  if (status >= 500) return ["Something went wrong on the server", SERVER_FAULT];
  return [name === "NotAllowedError" ? "The browser does not allow this" : "This did not work", "Try again, or reload the page."];
}

function addWait(advice, seconds) {
  if (!seconds) return advice;
  return `${advice.replace("Wait a moment", `Wait ${formatWait(seconds)}`)}`;
}

/** Return a time to wait in words. */
export function formatWait(seconds) {
  if (seconds < 90) return seconds === 1 ? "1 second" : `${Math.ceil(seconds)} seconds`;
  const minutes = Math.ceil(seconds / 60);
  return minutes < 90 ? `${minutes} minutes` : `${Math.ceil(minutes / 60)} hours`;
}
