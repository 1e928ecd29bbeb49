/** The files of the shown result, in every format; a format without a file is made when it is asked for. */

import { callJson } from "../api.js";
import { explain } from "../errors.js";
import { describeFormats, fetchFormat, listFormats, saveFormat } from "./export.js";
import { formatBytes } from "./files.js";
import { Icon } from "./icons.js";
import { html, useEffect, useRef, useState } from "./view.js";

export function Downloads({ entry }) {
  const dialog = useRef(null);
  const [descriptions, setDescriptions] = useState(new Map());
  // Before, its rows would be compared at each move of a slider; afterwards, a download goes on when it is closed.
  const [wasOpened, setWasOpened] = useState(false);

  async function open() {
    setWasOpened(true);
    dialog.current.showModal();
    if (descriptions.size) return;
    // Without the document the names alone are shown.
    setDescriptions(await callJson("openapi.json").then(describeFormats, () => new Map()));
  }

  return html`<button type="button" class="button" onClick=${open}><${Icon} name="download" />Download</button>
    <dialog ref=${dialog} class="dialog dialog--wide" aria-labelledby="download-title">
      <div class="section-head">
        <h2 id="download-title">Download</h2>
        <button type="button" class="button button--quiet button--small button--icon" aria-label="Close" onClick=${() => dialog.current.close()}><${Icon} name="close" /></button>
      </div>
      <p class="muted small">Each file has what the picture shows now. Some are made when you ask for them.</p>
      <ul role="list" class="formats">
        ${wasOpened && listFormats(entry.links).map(
          (format) => html`<${FormatRow} key=${format.name} entry=${entry} format=${format} description=${descriptions.get(format.file)} />`,
        )}
      </ul>
    </dialog>`;
}

const IDLE = Object.freeze({ kind: "idle" });

function FormatRow({ entry, format, description }) {
  const [status, setStatus] = useState(IDLE);
  const controller = useRef(null);
  // What was said is of another setting.
  useEffect(() => setStatus(IDLE), [entry.key, entry.parameters]);
  useEffect(() => () => controller.current?.abort(), []);

  async function fetchAndSave() {
    controller.current = new AbortController();
    setStatus({ kind: "busy", bytes: 0, total: null });
    try {
      const blob = await fetchFormat(entry, format, {
        signal: controller.current.signal,
        onProgress: (bytes, total) => setStatus({ kind: "busy", bytes, total }),
      });
      saveFormat(blob, entry, format);
      setStatus({ kind: "saved", bytes: blob.size });
    } catch (error) {
      setStatus(error.name === "AbortError" ? IDLE : { kind: "failed", explanation: explain(error) });
    }
  }

  const isBusy = status.kind === "busy";
  return html`<li class="format">
    <div class="format-text">
      <span class="format-name">${format.file}</span>
      <span class="muted small">${description ?? ""}</span>
      <span role="status" class=${status.kind === "failed" ? "field__error" : "muted small"}>${describeStatus(status)}</span>
      ${isBusy && html`<progress class="progress" max=${status.total ?? undefined} value=${status.total ? status.bytes : undefined} aria-label=${format.file}></progress>`}
    </div>
    <button type="button" class="button button--small" aria-label=${isBusy ? `Stop ${format.file}` : `Download ${format.file}`} onClick=${isBusy ? () => controller.current.abort() : fetchAndSave}>
      ${isBusy ? "Stop" : html`<${Icon} name="download" />`}
    </button>
  </li>`;
}

function describeStatus(status) {
  if (status.kind === "busy") return status.bytes ? formatBytes(status.bytes) : "Is being made";
  if (status.kind === "saved") return `Saved, ${formatBytes(status.bytes)}`;
  if (status.kind === "failed") return `${status.explanation.title}. ${status.explanation.detail} ${status.explanation.advice}`;
  return "";
}
