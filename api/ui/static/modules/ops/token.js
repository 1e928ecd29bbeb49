/** The token of the operator: asked for when the service wants one, and kept in this tab alone. */

import { readToken, writeToken } from "../api.js";
import { html, useState } from "./view.js";

/** isRefused: the service has refused the token that is set. */
export function TokenForm({ isRefused, onToken }) {
  const [isEmpty, setEmpty] = useState(false);
  const problem = isEmpty ? "Enter a token." : isRefused ? "This token is wrong, or it has expired." : "";

  function submit(event) {
    event.preventDefault();
    const token = new FormData(event.target).get("token").trim();
    setEmpty(token === "");
    if (token === "") return;
    writeToken(token);
    onToken();
  }

  return html`<form class="card stack token" onSubmit=${submit}>
    <div class="stack section-intro">
      <h2>This service asks for a token</h2>
      <p class="muted">Enter one with the scope admin to see names of machines, and reasons in full. A token of any scope sees the rest.</p>
    </div>
    <div class="field">
      <label class="field__label" for="token">Token</label>
      <input
        id="token"
        name="token"
        class="input"
        type="password"
        autocomplete="off"
        spellcheck="false"
        aria-invalid=${problem ? "true" : "false"}
        aria-describedby="token-hint token-problem"
      />
      <p id="token-problem" class="field__error" role="alert">${problem}</p>
      <p id="token-hint" class="field__hint">It is kept in this tab until you close it, and sent to this service alone.</p>
    </div>
    <div class="buttons"><button type="submit" class="button button--primary">Use this token</button></div>
  </form>`;
}

/** The button that forgets the token. */
export function ForgetToken({ onForget }) {
  if (!readToken()) return null;
  function forget() {
    writeToken("");
    onForget();
  }
  return html`<button type="button" class="button button--quiet button--small" onClick=${forget}>Forget the token</button>`;
}
