/** Two settings of one photo side by side: the second result, right of a line that can be moved. */

import { callFile, callJson } from "../api.js";
import { decodeLabels } from "../viewer/labels.js";
import { colorSegments } from "../viewer/colors.js";
import { speak } from "../errors.js";
import { createRecutter } from "./recutting.js";
import { findEntry, selectedEntry } from "./store.js";

/**
 * @param showFailure (error, again) tells a failure
 * @param previews PreviewSize of the page
 * @param addFiles submits a photo for another model, and returns the keys of its entries
 */
export function createComparison(store, { report, showFailure, previews, addFiles }) {
  let recutter = null;
  let waitsFor = null;
  // Raised by each start, end and choice of a model, so that what comes late for another one is dropped.
  let generation = 0;
  // Of the right side, while its settings can be changed.
  let openJob = null;

  function update(change) {
    store.set(({ comparison }) => ({ comparison: comparison && { ...comparison, ...change } }));
  }

  /** Begin with the shown setting on both sides; the right one is set by the sliders. */
  function start() {
    const { shown } = store.get();
    const entry = selectedEntry(store.get());
    if (!entry || !shown?.labels) return;
    // The selection of another photo has ended the comparison before, perhaps while it waited for a model.
    reset();
    open(entry.jobId, shown.size);
    const { labels, segments, parameters } = shown;
    store.set({
      comparison: { position: 0.5, side: "right", model: entry.model, labels, segments, parameters, isBusy: false },
      isolated: null,
      announcement: "Comparison. The sliders set the right side; the arrow keys move the line.",
    });
  }

  function close() {
    recutter?.close();
    recutter = null;
    openJob = null;
  }

  function stop() {
    reset();
    store.set({ comparison: null });
  }

  function reset() {
    close();
    waitsFor = null;
    generation += 1;
  }

  function open(jobId, size) {
    close();
    openJob = jobId;
    recutter = createRecutter(jobId, size, {
      previews,
      show: (answer, parameters) => {
        report(true);
        update({ labels: answer.labels, segments: colorSegments(answer.segments), parameters });
      },
      fail: (error) => fail(error, () => jobId === openJob && setParameters({})),
      onBusy: (isBusy) => update({ isBusy }),
    });
  }

  function setParameters(change) {
    const parameters = { ...store.get().comparison.parameters, ...change };
    update({ parameters });
    recutter?.request(parameters);
  }

  /** Compute the photo with another model for the right side. */
  async function setModel(model) {
    const { shown, comparison } = store.get();
    const entry = selectedEntry(store.get());
    reset();
    const mine = generation;
    update({ model });
    if (model === entry.model) {
      open(entry.jobId, shown.size);
      return setParameters({});
    }
    update({ isBusy: true });
    try {
      const file = entry.file ?? (await callFile(`v1/jobs/${entry.jobId}/input`));
      if (!isCurrent(mine)) return;
      const named = new File([file], entry.name, { type: file.type });
      [waitsFor] = addFiles([named], { model, parameters: comparison.parameters });
    } catch (error) {
      if (isCurrent(mine)) fail(error);
    }
  }

  function isCurrent(mine) {
    return mine === generation && store.get().comparison !== null;
  }

  /** Called when a job has succeeded: it may be that of the other model. */
  async function showResult(key) {
    if (key !== waitsFor) return;
    waitsFor = null;
    const mine = generation;
    if (!isCurrent(mine)) return;
    const { jobId } = findEntry(store.get(), key);
    try {
      const [result, file] = await Promise.all([callJson(`v1/jobs/${jobId}/result`), callFile(`v1/jobs/${jobId}/labels.png`)]);
      const labels = await decodeLabels(file);
      if (!isCurrent(mine)) return;
      open(jobId, labels);
      update({ labels, segments: colorSegments(result.segments), isBusy: false });
    } catch (error) {
      if (isCurrent(mine)) fail(error);
    }
  }

  /** Called when a job has ended without a result: it may be that of the other model. */
  function endWithoutResult(key) {
    if (key !== waitsFor) return;
    waitsFor = null;
    const { error } = findEntry(store.get(), key);
    update({ isBusy: false });
    if (error) store.set({ notice: error, announcement: speak(error) });
  }

  function fail(error, again = null) {
    update({ isBusy: false });
    showFailure(error, again);
  }

  return { start, stop, setParameters, setModel, showResult, endWithoutResult, setPosition: (position) => update({ position }), setSide: (side) => update({ side }) };
}
