/** The shown request as a program, to copy. */

import { ROOT, readToken } from "../api.js";
import { listFormats } from "./export.js";
import { Icon } from "./icons.js";
import { buildSnippets } from "./snippets.js";
import { html, useMemo, useRef, useState } from "./view.js";

const FIRST_FORMAT = "coco";

export function Code({ entry, defaultModel }) {
  const dialog = useRef(null);
  const [language, setLanguage] = useState("curl");
  const [formatName, setFormatName] = useState(FIRST_FORMAT);
  const [outcome, setOutcome] = useState("");
  const formats = listFormats(entry.links);
  const format = formats.find(({ name }) => name === formatName) ?? formats[0];
  const hasToken = Boolean(readToken());
  const snippets = useMemo(
    () => format && buildSnippets(buildRequest(entry, format, { defaultModel, hasToken })),
    [entry, format?.name, defaultModel, hasToken],
  );

  async function copy() {
    try {
      await navigator.clipboard.writeText(snippets[language]);
      setOutcome("Copied");
    } catch {
      // Over http from another machine there is no clipboard.
      setOutcome("Not allowed here: select the text and copy it");
    }
  }

  function choose(setter) {
    return (value) => {
      setOutcome("");
      setter(value);
    };
  }

  return html`<button type="button" class="button" onClick=${() => dialog.current.showModal()}><${Icon} name="code" />Code</button>
    <dialog ref=${dialog} class="dialog dialog--wide" aria-labelledby="code-title">
      <div class="section-head">
        <h2 id="code-title">This request as code</h2>
        <button type="button" class="button button--quiet button--small button--icon" aria-label="Close" onClick=${() => dialog.current.close()}><${Icon} name="close" /></button>
      </div>
      ${snippets &&
      html`<div class="code-tools">
          <fieldset class="segmented">
            <legend class="visually-hidden">Language</legend>
            ${Object.keys(snippets).map(
              (name) => html`<label key=${name} class="segmented__item">
                <input type="radio" class="visually-hidden" name="language" checked=${name === language} onChange=${() => choose(setLanguage)(name)} />
                ${name}
              </label>`,
            )}
          </fieldset>
          <label class="inline">
            <span>File</span>
            <select class="select select--small" value=${format.name} onChange=${(event) => choose(setFormatName)(event.target.value)}>
              ${formats.map(({ name, file }) => html`<option key=${name} value=${name}>${file}</option>`)}
            </select>
          </label>
        </div>
        <pre tabindex="0" aria-label=${`Program in ${language}`}><code>${snippets[language]}</code></pre>
        <div class="buttons buttons--end">
          <span role="status" class="muted small">${outcome}</span>
          <button type="button" class="button button--primary" onClick=${copy}><${Icon} name="copy" />Copy</button>
        </div>`}
    </dialog>`;
}

function buildRequest(entry, format, { defaultModel, hasToken }) {
  return {
    root: ROOT,
    fileName: entry.name,
    parameters: entry.parameters,
    model: entry.model === defaultModel ? null : entry.model,
    format,
    hasToken,
  };
}
