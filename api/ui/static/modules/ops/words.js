/** Figures and times as text.  No DOM here. */

const number = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const oneDigit = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

export const formatCount = (count) => number.format(count);

/** Return a figure with one digit behind the point where that says something. */
export const formatFigure = (value) => (value < 100 ? oneDigit : number).format(value);

export const formatClock = (time) => clock.format(new Date(time));

export const formatMoment = (time) => moment.format(new Date(time));

/** Return `1 job`, `2 jobs`. */
export function formatAmount(count, one, many = `${one}s`) {
  return `${formatCount(count)} ${count === 1 ? one : many}`;
}

/** Return a duration: 0.4 s, 12 s, 3 min 5 s, 2 h 10 min. */
export function formatDuration(seconds) {
  if (seconds < 10) return `${oneDigit.format(seconds)} s`;
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return join(Math.floor(whole / 60), "min", whole % 60, "s");
  return join(Math.floor(whole / 3600), "h", Math.floor((whole % 3600) / 60), "min");
}

function join(large, largeUnit, small, smallUnit) {
  return small ? `${large} ${largeUnit} ${small} ${smallUnit}` : `${large} ${largeUnit}`;
}

/** Return a state or an error type in words: `setup_failed` is `Setup failed`. */
export function spell(name) {
  const words = name.replaceAll("_", " ");
  return words[0].toUpperCase() + words.slice(1);
}
