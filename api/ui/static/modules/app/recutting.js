/** Recuts of one job, shown as they come: the calls of recut.js with the service's own answers. */

import { callJson } from "../api.js";
import { decodeLabels } from "../viewer/labels.js";
import { RecutQueue } from "./recut.js";

export const PREVIEW_SIDE = 1024;

/**
 * Return a RecutQueue for a job; its answers are { labels, segments, files }.
 *
 * @param size { width, height } of the photo: a small one needs no preview.
 */
export function createRecutter(jobId, size, { show, fail, onBusy }) {
  return new RecutQueue({
    send: (parameters, { isPreview, signal }) => {
      return requestRecut(jobId, parameters, { ...(isPreview ? { max_side: PREVIEW_SIDE } : {}) }, signal);
    },
    show,
    fail,
    onBusy,
    needsPreview: Math.max(size.width, size.height) > PREVIEW_SIDE,
  });
}

/** Return the segments, the label map and further files that a job has with other parameters. */
export async function requestRecut(jobId, parameters, options = {}, signal = undefined) {
  const given = Object.entries(parameters).filter(([, value]) => value !== null);
  const json = { ...Object.fromEntries(given), ...options };
  const answer = await callJson(`v1/jobs/${jobId}/recut`, { method: "POST", json, signal });
  return { labels: await decodeLabels(answer.labels), segments: answer.segments, files: { ...answer.files, labels: { media_type: "image/png", base64: answer.labels } } };
}
