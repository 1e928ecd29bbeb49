// The page for operators.

import { render } from "preact";
import { html } from "htm/preact";

render(html`<h1>Operations</h1>`, document.getElementById("ops"));
