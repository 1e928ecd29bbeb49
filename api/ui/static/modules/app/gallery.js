/** The photos of this page and the recent jobs of the token: small pictures, state, filter. */

import { FileButton } from "./adding.js";
import { Icon } from "./icons.js";
import { ModelChoice } from "./models.js";
import { ALL_STATES, filterEntries, findGroup } from "./store.js";
import { describeState, nameState } from "./words.js";
import { html, useEffect, useMemo, useRef } from "./view.js";

const FILTERS = { [ALL_STATES]: "All", running: "Running", succeeded: "Done", failed: "Failed", canceled: "Canceled" };

export function Gallery({ state, actions }) {
  const { entries, stateFilter, selectedKey, nextCursor } = state;
  const shown = useMemo(() => filterEntries({ entries, stateFilter, selectedKey }), [entries, stateFilter, selectedKey]);
  const tiles = useTiles(shown, selectedKey, actions);
  // On the first screen it stands beside the place to drop photos.
  const choice = selectedKey && html`<${ModelChoice} state=${state} actions=${actions} />`;
  return html`<section class="gallery" aria-labelledby="gallery-title">
    <div class="section-head">
      <h2 id="gallery-title">Photos</h2>
      ${choice}
      <label>
        <span class="visually-hidden">Show photos of this state</span>
        <select class="select select--small" value=${stateFilter} onChange=${(event) => actions.setStateFilter(event.target.value)}>
          ${Object.entries(FILTERS).map(([value, text]) => html`<option key=${value} value=${value}>${text}</option>`)}
        </select>
      </label>
    </div>
    <ul role="list" class="tiles">
      <li class="add">
        <${FileButton} className="tile" onFiles=${actions.addFiles}><${Icon} name="plus" /><span>Add photos</span><//>
      </li>
      ${tiles}
      ${nextCursor && html`<li><button type="button" class="tile" onClick=${actions.loadMore}>Show older</button></li>`}
    </ul>
  </section>`;
}

/** Return the tiles; of an entry that has not changed the same one again, which is not compared then. */
function useTiles(entries, selectedKey, actions) {
  const [plain, selected] = useRef([new WeakMap(), new WeakMap()]).current;
  return entries.map((entry) => {
    const isSelected = entry.key === selectedKey;
    const tiles = isSelected ? selected : plain;
    if (!tiles.has(entry)) tiles.set(entry, html`<${Tile} key=${entry.key} entry=${entry} isSelected=${isSelected} actions=${actions} />`);
    return tiles.get(entry);
  });
}

function Tile({ entry, isSelected, actions }) {
  const item = useRef(null);
  useEffect(() => {
    if (entry.thumbnail || entry.file || entry.state !== "succeeded") return undefined;
    // Of what is not in sight nothing is fetched.
    const observer = new IntersectionObserver(([seen]) => {
      if (!seen.isIntersecting) return;
      observer.disconnect();
      actions.loadThumbnail(entry);
    });
    observer.observe(item.current);
    return () => observer.disconnect();
  }, [entry.state]);
  const group = findGroup(entry.state);
  return html`<li ref=${item}>
    <button
      type="button"
      class=${`tile photo is-${group}`}
      aria-current=${isSelected ? "true" : undefined}
      aria-label=${`${entry.name}, ${describeState(entry)}`}
      onClick=${() => actions.select(entry.key)}
    >
      ${entry.thumbnail ? html`<img src=${entry.thumbnail} alt="" />` : html`<span class="no-picture" aria-hidden="true"></span>`}
      ${group !== "succeeded" && html`<span class="tile-state" aria-hidden="true">${nameState(entry.state)}</span>`}
    </button>
  </li>`;
}
