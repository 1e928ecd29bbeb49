/** The photo with its segments: the picture of viewer.js, its tools, and the line of a comparison. */

import { createViewer } from "../viewer/viewer.js";
import { filterSegments } from "./segments.js";
import { html, useEffect, useLayoutEffect, useMemo, useRef } from "./view.js";

const NO_SEGMENTS = [];

/** @param hold (viewer | null) gets the viewer, for the tools beside it */
export function Stage({ state, actions, hold }) {
  const { shown, comparison } = state;
  const element = useRef(null);
  const viewer = useRef(null);

  useLayoutEffect(() => {
    viewer.current = createViewer(element.current, {
      onHover: actions.highlight,
      onSelect: actions.isolate,
      onView: () => {},
    });
    hold(viewer.current);
    return () => {
      hold(null);
      viewer.current.dispose();
    };
  }, []);
  usePicture(viewer, state);

  return html`<div class="stage">
    <div class="picture" ref=${element}></div>
    ${comparison && html`<${Wipe} comparison=${comparison} actions=${actions} />`}
    ${shown?.photoFault && shown.labels && html`<p class="photo-fault small">${shown.photoFault}</p>`}
  </div>`;
}

/** Pass what has changed to the viewer; of a photo without pixels or segments, that there are none. */
function usePicture(viewer, { shown, comparison, look, list, isolated, highlighted }) {
  const { photo = null, labels = null, segments = NO_SEGMENTS } = shown ?? {};
  useLayoutEffect(() => viewer.current.setPhoto(photo), [photo]);
  useLayoutEffect(() => {
    viewer.current.setSegments(segments);
    viewer.current.setLabels(labels);
  }, [labels, segments]);
  useLayoutEffect(() => {
    const visible = list.labels.size ? new Set(filterSegments(segments, list.labels).map(({ id }) => id)) : null;
    viewer.current.setStyle({ ...look, visible });
  }, [look, list.labels, segments]);
  useEffect(() => viewer.current.highlight(highlighted), [highlighted]);
  useEffect(() => viewer.current.isolate(isolated), [isolated]);
  const compared = useMemo(() => filterSegments(comparison?.segments ?? NO_SEGMENTS, list.labels), [comparison?.segments, list.labels]);
  useLayoutEffect(() => {
    if (comparison?.labels) viewer.current.compareWith(comparison.labels, compared, comparison.position);
    else viewer.current.compareWith(null, NO_SEGMENTS, 1);
  }, [comparison?.labels, compared, comparison?.position]);
}

/** The line between the two results: dragged, or moved by the arrow keys of its slider. */
function Wipe({ comparison, actions }) {
  const line = useRef(null);
  // Style sheets alone are allowed by the page's policy; a script may set a property.
  useLayoutEffect(() => line.current.style.setProperty("--position", comparison.position), [comparison.position]);
  return html`<div class="wipe" ref=${line}>
    <span class="wipe-label left">Left</span>
    <span class="wipe-label right">Right</span>
    <span class="wipe-line" aria-hidden="true"></span>
    <input
      type="range"
      min="0"
      max="1"
      step="0.005"
      aria-label="Line between the left and the right result"
      value=${comparison.position}
      onInput=${(event) => actions.setPosition(Number(event.target.value))}
    />
  </div>`;
}
