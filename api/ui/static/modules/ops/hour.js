/** The last hour: throughput, batch sizes and failures, of all models or of one. */

import { addMinutes, addUp } from "./activity.js";
import { MinuteChart } from "./chart.js";
import { html, useState } from "./view.js";
import { formatCount, formatFigure } from "./words.js";

const ALL = "";

export function LastHour({ models }) {
  const [wanted, setWanted] = useState(ALL);
  const shown = models.some(({ id }) => id === wanted) ? models.filter(({ id }) => id === wanted) : models;
  const minutes = addMinutes(shown.filter((model) => model.last_hour.length > 0));
  const hour = addUp(minutes);

  return html`<section class="stack" aria-labelledby="hour-title">
    <div class="row section-head">
      <h2 id="hour-title">Last hour</h2>
      ${models.length > 1 && html`<${ModelSelect} models=${models} wanted=${wanted} onChange=${setWanted} />`}
    </div>
    <div class="charts">
      <${MinuteChart}
        title="Images segmented"
        total=${formatCount(hour.images)}
        note="by minute"
        minutes=${minutes}
        values=${minutes.map(({ images }) => images)}
        format=${formatCount}
      />
      <${MinuteChart}
        title="Images in a batch"
        total=${hour.batchSize === null ? "–" : formatFigure(hour.batchSize)}
        note="on average"
        minutes=${minutes}
        values=${minutes.map(({ batchSize }) => batchSize)}
        format=${formatFigure}
      />
      <${MinuteChart}
        title="Jobs failed"
        total=${formatCount(hour.failed)}
        note="by minute"
        minutes=${minutes}
        values=${minutes.map(({ failed }) => failed)}
        format=${formatCount}
        kind="danger"
      />
    </div>
  </section>`;
}

function ModelSelect({ models, wanted, onChange }) {
  return html`<label class="model-select">
    <span class="visually-hidden">Model</span>
    <select class="select" value=${wanted} onChange=${(event) => onChange(event.currentTarget.value)}>
      <option value=${ALL}>All models</option>
      ${models.map(({ id }) => html`<option key=${id} value=${id}>${id}</option>`)}
    </select>
  </label>`;
}
