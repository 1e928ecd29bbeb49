/** What concerns the page as a whole: the server is gone, or a call has failed. */

import { Countdown } from "./countdown.js";
import { Icon } from "./icons.js";
import { html } from "./view.js";

export function Notices({ state, actions }) {
  const { isConnected, notice } = state;
  if (isConnected && !notice) return null;
  return html`<div class="notices">
    ${!isConnected &&
    html`<div class="notice notice--warning" role="alert">
      <span class="notice__title">The server does not answer</span>
      <span>This page tries again by itself, and goes on where it was. Check that the server is running and that you are online.</span>
    </div>`}
    ${notice &&
    html`<div class="notice notice--error" role="alert">
      <span class="notice__title">${notice.title}</span>
      <span>${notice.detail} ${notice.advice}</span>
      ${notice.repeatAt && html`<${Countdown} until=${notice.repeatAt} />`}
      <button type="button" class="button button--quiet button--small button--icon" aria-label="Close this message" onClick=${actions.closeNotice}>
        <${Icon} name="close" />
      </button>
    </div>`}
  </div>`;
}
