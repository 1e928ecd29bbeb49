/** What components are made of. */

export { html } from "htm/preact";
export { render } from "preact";
export { useEffect, useId, useRef, useState } from "preact/hooks";
