/** What components are made with: Preact and htm, from one place; and the state of the page for them. */

import { useLayoutEffect, useState } from "preact/hooks";

export { html, render } from "htm/preact";
export { useEffect, useLayoutEffect, useMemo, useRef, useState } from "preact/hooks";

/** Return the state of a store, and draw again with each change. */
export function useStore(store) {
  const [state, setState] = useState(store.get());
  useLayoutEffect(() => {
    // It may have changed since it was drawn.
    setState(store.get());
    return store.subscribe(setState);
  }, [store]);
  return state;
}
