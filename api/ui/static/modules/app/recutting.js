/** Recuts of one job, shown as they come: the calls of recut.js with the service's own answers. */

import { callJson } from "../api.js";
import { decodeLabels } from "../viewer/labels.js";
import { RecutQueue } from "./recut.js";

/**
 * Return a RecutQueue for a job; its answers are { labels, segments, files }.
 *
 * @param size { width, height } of the photo: a small one needs no preview.
 * @param previews PreviewSize of the page: the service is as quick for one photo as for the next
 */
export function createRecutter(jobId, size, { previews, ...rest }) {
  return new RecutQueue({
    async send(parameters, { isPreview, signal }) {
      if (!isPreview) return requestRecut(jobId, parameters, {}, signal);
      const side = previews.choose();
      const begin = performance.now();
      const answer = await requestRecut(jobId, parameters, { max_side: side }, signal);
      previews.note(side, performance.now() - begin);
      return answer;
    },
    needsPreview: () => Math.max(size.width, size.height) > previews.choose(),
    ...rest,
  });
}

/** Return the segments, the label map and further files that a job has with other parameters, and what is omitted. */
export async function requestRecut(jobId, parameters, options = {}, signal = undefined) {
  const given = Object.entries(parameters).filter(([, value]) => value !== null);
  const json = { ...Object.fromEntries(given), ...options };
  const answer = await callJson(`v1/jobs/${jobId}/recut`, { method: "POST", json, signal });
  const files = { ...answer.files, labels: { media_type: "image/png", base64: answer.labels } };
  return { labels: await decodeLabels(answer.labels), segments: answer.segments, files, omitted: answer.omitted };
}
