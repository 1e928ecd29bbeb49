// The page for photos.

import { render } from "preact";
import { html } from "htm/preact";

render(html`<h1>Photos in, masks out</h1>`, document.getElementById("app"));
