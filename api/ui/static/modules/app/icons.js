/** Small drawings of buttons, in the colour of the text. */

import { html } from "./view.js";

const PATHS = {
  plus: "M10 4v12M4 10h12",
  minus: "M4 10h12",
  fit: "M4 8V4h4M12 4h4v4M16 12v4h-4M8 16H4v-4",
  close: "M5 5l10 10M15 5L5 15",
  download: "M10 3v10M6 9l4 4 4-4M4 16h12",
  code: "M7 6l-4 4 4 4M13 6l4 4-4 4",
  compare: "M10 3v14M3 5h5v10H3zM12 5h5v10h-5z",
  copy: "M7 7h9v9H7zM13 7V4H4v9h3",
  cut: "M6.5 7.5L16 16M6.5 12.5L16 4M5 8.5a2 2 0 100-4 2 2 0 000 4zM5 15.5a2 2 0 100-4 2 2 0 000 4z",
  camera: "M3 6h3.5L8 4h4l1.5 2H17v10H3zM10 13.5a2.75 2.75 0 100-5.5 2.75 2.75 0 000 5.5z",
  key: "M12.5 11.5a4 4 0 10-4-4c0 .5.1.9.2 1.3L3 14.5V17h2.5l1-1v-1.5H8V13h1.5l1.2-1.2c.5.2 1.1.3 1.8.3zM13.5 6.5h.01",
  retry: "M15.5 8A6 6 0 104 11.5M16 4v4h-4",
};

export function Icon({ name }) {
  return html`<svg class="icon" viewBox="0 0 20 20" aria-hidden="true" focusable="false"><path d=${PATHS[name]} /></svg>`;
}
