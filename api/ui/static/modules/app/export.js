/** What leaves the page: files of every format, for exactly what is shown, and cut-outs. */

import { callFile, ServiceError } from "../api.js";
import { nameCutOut, nameDownload } from "./files.js";
import { isSame } from "./parameters.js";
import { requestRecut } from "./recutting.js";

// Its links in a job are not formats.
const NOT_FORMATS = new Set(["self", "input", "result"]);

/** Return [{ name, file }] of the formats that a job links to. */
export function listFormats(links) {
  return Object.entries(links ?? {})
    .filter(([name]) => !NOT_FORMATS.has(name))
    .map(([name, link]) => ({ name, file: link.split("/").pop() }));
}

/** Return the description of each format by its file, from the OpenAPI document. */
export function describeFormats(document) {
  const described = new Map();
  for (const [path, { get }] of Object.entries(document.paths ?? {})) {
    const file = path.match(/^\/v1\/jobs\/\{job_id\}\/([a-z0-9_]+\.[a-z]+)$/)?.[1];
    if (file && get) described.set(file, (get.summary ?? get.description ?? "").split("  ")[0]);
  }
  return described;
}

/** Fetch a file of what is shown: of the job itself while its own parameters are shown, of a recut otherwise. */
export async function fetchFormat(entry, format, { onProgress, signal }) {
  if (isSame(entry.parameters, entry.jobParameters)) {
    return callFile(entry.links[format.name], { onProgress, signal });
  }
  const { files, omitted } = await requestRecut(entry.jobId, entry.parameters, { formats: [format.name] }, signal);
  if (omitted[format.name]) throw buildOmission(omitted[format.name]);
  return readInline(files[format.name]);
}

/** Return the error of a format that cannot hold what is shown, as a request for its file is answered with it. */
function buildOmission({ error: message, error_type: errorType }) {
  return new ServiceError({ status: 422, errorType, message });
}

function readInline({ media_type: type, text, base64 }) {
  if (base64 === null || base64 === undefined) return new Blob([text], { type });
  return new Blob([Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0))], { type });
}

/** Offer a blob for download. */
export function save(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  // The download has its own reference once it has begun.
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}

export function saveFormat(blob, entry, format) {
  save(blob, nameDownload(entry.name, format.file));
}

export function saveCutOut(blob, entry, label) {
  save(blob, nameCutOut(entry.name, label));
}

/** Copy a picture; it is passed as a promise, because the browser allows this only at once after a click. */
export async function copyPicture(promise) {
  if (!navigator.clipboard?.write) {
    throw Object.assign(new Error("Copying needs https, or the address localhost."), { name: "NotAllowedError" });
  }
  await navigator.clipboard.write([new ClipboardItem({ "image/png": promise })]);
}
