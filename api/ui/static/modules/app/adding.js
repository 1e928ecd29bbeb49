/** How photos come in: dropped, pasted, chosen, taken with a camera, or from the samples. */

import { ACCEPT } from "./files.js";
import { Icon } from "./icons.js";
import { ModelChoice } from "./models.js";
import { SAMPLES } from "./samples.js";
import { html, useEffect, useRef, useState } from "./view.js";

const SAMPLE_FOLDER = new URL("../../samples/", import.meta.url).href;

/** A button that opens the choice of files, or the camera. */
export function FileButton({ onFiles, isCamera = false, className = "", children }) {
  const input = useRef(null);
  function take(event) {
    onFiles([...event.target.files]);
    // The same file may be chosen again.
    event.target.value = "";
  }
  const camera = isCamera ? { capture: "environment", accept: "image/*" } : { multiple: true, accept: ACCEPT };
  return html`<button type="button" class=${className} onClick=${() => input.current.click()}>${children}</button>
    <input ref=${input} type="file" hidden ...${camera} onChange=${take} />`;
}

/** Take photos that are dropped or pasted anywhere on the page; returns whether something hovers over it. */
export function useDroppedFiles(onFiles) {
  const [isOver, setIsOver] = useState(false);
  useEffect(() => {
    const listeners = listen(onFiles, setIsOver);
    for (const [name, listener] of listeners) document.addEventListener(name, listener);
    return () => {
      for (const [name, listener] of listeners) document.removeEventListener(name, listener);
    };
  }, [onFiles]);
  return isOver;
}

function listen(onFiles, setIsOver) {
  const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
  const over = (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    setIsOver(true);
  };
  const leave = (event) => {
    if (!event.relatedTarget) setIsOver(false);
  };
  const drop = (event) => {
    if (!hasFiles(event)) return;
    event.preventDefault();
    setIsOver(false);
    onFiles([...event.dataTransfer.files]);
  };
  const paste = (event) => {
    const files = [...(event.clipboardData?.files ?? [])];
    if (files.length) onFiles(files);
  };
  return [["dragover", over], ["dragleave", leave], ["drop", drop], ["paste", paste]];
}

/** The first screen: there is no photo yet. */
export function Welcome({ state, actions }) {
  return html`<section class="welcome" aria-labelledby="welcome-title">
    <h1 id="welcome-title">Drop a photo, see what is in it</h1>
    <p class="lead">People, cars, grass and sky each get a mask that is exact to the pixel.</p>
    <div class="drop-area">
      <div class="buttons">
        <${FileButton} className="button button--primary button--large" onFiles=${actions.addFiles}>Choose photos<//>
        <${FileButton} className="button button--large camera-only" isCamera onFiles=${actions.addFiles}><${Icon} name="camera" />Take a photo<//>
      </div>
      <p class="muted">Or drop them anywhere on this page, or paste one.</p>
      <${ModelChoice} state=${state} actions=${actions} />
    </div>
    <${Samples} actions=${actions} />
  </section>`;
}

function Samples({ actions }) {
  return html`<div class="samples">
    <h2>No photo at hand?</h2>
    <ul role="list">
      ${SAMPLES.map(
        ({ file, title }) => html`<li key=${file}>
          <button type="button" class="sample" onClick=${() => actions.addSample(`${SAMPLE_FOLDER}${file}`, file)}>
            <img src=${`${SAMPLE_FOLDER}${file.replace(".jpg", ".small.jpg")}`} alt="" width="160" height="120" />
            <span>${title}</span>
          </button>
        </li>`,
      )}
    </ul>
  </div>`;
}
