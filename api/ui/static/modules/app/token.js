/** The token: a button at the top of the page, and the dialog in which it is entered. */

import { readToken, writeToken } from "../api.js";
import { Icon } from "./icons.js";
import { html, useEffect, useRef, useState, useStore } from "./view.js";

export function TokenButton({ store, actions }) {
  const dialog = useRef(null);
  const isNeeded = useStore(store).isTokenNeeded;
  const [hasToken, setHasToken] = useState(Boolean(readToken()));
  useEffect(() => {
    if (isNeeded && !dialog.current.open) dialog.current.showModal();
  }, [isNeeded]);

  function submit(event) {
    event.preventDefault();
    const before = readToken();
    writeToken(new FormData(event.target).get("token").trim());
    setHasToken(Boolean(readToken()));
    dialog.current.close();
    actions.useToken({ isChanged: readToken() !== before });
  }

  return html`<button type="button" class="button button--quiet button--small" onClick=${() => dialog.current.showModal()}>
      <${Icon} name="key" /><span class="token-text">${hasToken ? "Token set" : "Token"}</span>
    </button>
    <dialog ref=${dialog} class="dialog" aria-labelledby="token-title" onClose=${actions.closeToken}>
      <form class="stack" onSubmit=${submit}>
        <h2 id="token-title">${isNeeded ? "This service asks for a token" : "Your token"}</h2>
        ${isNeeded && html`<p class="field__error" role="alert">${describeNeed(hasToken)}</p>`}
        <div class="field">
          <label class="field__label" for="token">Token</label>
          <input id="token" name="token" class="input" type="password" autocomplete="off" spellcheck=${false} defaultValue=${readToken()} />
          <span class="field__hint">It is kept in this tab until you close it, and sent to this service alone.</span>
        </div>
        <div class="buttons buttons--end">
          <button type="button" class="button button--quiet" onClick=${() => dialog.current.close()}>Cancel</button>
          <button type="submit" class="button button--primary">Use this token</button>
        </div>
      </form>
    </dialog>`;
}

function describeNeed(hasToken) {
  if (hasToken) return "The token is wrong, or it has expired. Enter the one that the operator of this service gave you.";
  return "Enter the token that the operator of this service gave you.";
}
