/**
 * Calls of the service from its own pages: the token, JSON, files, uploads with progress, and errors as one class.
 *
 * The token is kept in the session storage of this tab alone, and is sent in the header Authorization alone: never in a
 * URL, which logs and histories keep.
 */

import { explain } from "./errors.js";

const TOKEN_KEY = "maskmill-token";
const STATIC_PATH = "/ui/static/";

/** Address of the service, with the prefix that a proxy in front may add; it ends with a slash. */
export const ROOT = `${import.meta.url.split(STATIC_PATH)[0]}/`;

/** A call without a usable answer.  status: 0 if the server could not be reached. */
export class ServiceError extends Error {
  constructor({ status, errorType, message, retryAfterSeconds = null, details = {} }) {
    super(message);
    this.name = "ServiceError";
    this.status = status;
    this.errorType = errorType;
    this.retryAfterSeconds = retryAfterSeconds;
    this.details = details;
  }

  /** What to do about it. */
  get advice() {
    return explain(this).advice;
  }

  get isUnreachable() {
    return this.status === 0;
  }
}

export function readToken() {
  return sessionStorage.getItem(TOKEN_KEY) ?? "";
}

export function writeToken(token) {
  if (token) sessionStorage.setItem(TOKEN_KEY, token);
  else sessionStorage.removeItem(TOKEN_KEY);
}

/** Return the address of a path below the service (`v1/jobs`), or of a link that the service has given (`/v1/...`). */
export function resolve(path) {
  return new URL(path, ROOT).href;
}

/** Return the headers that every call has. */
export function buildHeaders(more = {}) {
  const token = readToken();
  return token ? { ...more, Authorization: `Bearer ${token}` } : { ...more };
}

/** Call the service, and return its Response if it has a status of success; otherwise throw a ServiceError. */
export async function call(path, { headers = {}, ...options } = {}) {
  let response;
  try {
    response = await fetch(resolve(path), { credentials: "omit", ...options, headers: buildHeaders(headers) });
  } catch (error) {
    throw error.name === "AbortError" ? error : buildUnreachable();
  }
  if (!response.ok) throw readError(response.status, response.headers.get("Retry-After"), await readText(response));
  return response;
}

/** Return the JSON that a path answers with; `json`, if given, is sent as the body. */
export async function callJson(path, { json, ...options } = {}) {
  const body = json === undefined ? {} : { body: JSON.stringify(json), headers: { "Content-Type": "application/json" } };
  return readBody(await call(path, { ...options, ...body }), (response) => response.json());
}

/** Return a file as a Blob; onProgress gets the bytes so far, and all of them, or null where that is unknown. */
export async function callFile(path, { onProgress = () => {}, ...options } = {}) {
  const response = await call(path, options);
  const isPlain = !response.headers.get("Content-Encoding");
  const total = (isPlain && Number(response.headers.get("Content-Length"))) || null;
  const chunks = await readBody(response, () => readChunks(response.body.getReader(), (done) => onProgress(done, total)));
  return new Blob(chunks, { type: response.headers.get("Content-Type") ?? "" });
}

/** Put a file as it is, and return the JSON of the answer.  onProgress gets a share from 0 to 1. */
export function upload(path, file, { onProgress = () => {}, signal } = {}) {
  return new Promise((succeed, fail) => {
    // Only XMLHttpRequest tells how much of a body has been sent.
    const request = new XMLHttpRequest();
    request.open("PUT", resolve(path));
    for (const [name, value] of Object.entries(buildHeaders({ "Content-Type": "application/octet-stream" }))) {
      request.setRequestHeader(name, value);
    }
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onload = () => settleUpload(request, succeed, fail);
    request.onerror = () => fail(buildUnreachable());
    request.onabort = () => fail(new DOMException("The upload was canceled.", "AbortError"));
    signal?.addEventListener("abort", () => request.abort(), { once: true });
    if (signal?.aborted) request.onabort();
    else request.send(file);
  });
}

/** Return the error that an answer describes.  The text is the body: `{"error": sentence, "error_type": code, ...}`. */
export function readError(status, retryAfter, text) {
  const { error, error_type: errorType, request_id: _id, ...details } = parseObject(text);
  const message = typeof error === "string" ? error : `The server answered with status ${status}.`;
  const seconds = retryAfter !== null && retryAfter !== "" ? Number(retryAfter) : NaN;
  const wait = Number.isFinite(seconds) ? seconds : null;
  return new ServiceError({ status, errorType: errorType ?? "unknown", message, retryAfterSeconds: wait, details });
}

function settleUpload(request, succeed, fail) {
  if (request.status >= 200 && request.status < 300) succeed(parseObject(request.responseText));
  else fail(readError(request.status, request.getResponseHeader("Retry-After"), request.responseText));
}

async function readChunks(reader, onBytes) {
  const chunks = [];
  let bytes = 0;
  for (let part = await reader.read(); !part.done; part = await reader.read()) {
    chunks.push(part.value);
    bytes += part.value.byteLength;
    onBytes(bytes);
  }
  return chunks;
}

/** Read a body; that a connection ends within it is the same to the reader as a server that does not answer. */
async function readBody(response, read) {
  try {
    return await read(response);
  } catch (error) {
    throw error.name === "AbortError" ? error : buildUnreachable();
  }
}

async function readText(response) {
  return response.text().catch(() => "");
}

function parseObject(text) {
  try {
    const value = JSON.parse(text);
    return value !== null && typeof value === "object" ? value : {};
  } catch {
    return {};
  }
}

function buildUnreachable() {
  return new ServiceError({ status: 0, errorType: "unreachable", message: "The server does not answer." });
}
