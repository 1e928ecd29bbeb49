/** What components are made of. */

export { html } from "htm/preact";
export { render } from "preact";
export { useEffect, useId, useState } from "preact/hooks";
