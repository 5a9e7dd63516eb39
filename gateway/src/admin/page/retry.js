// The retry schedule of a database that is away, and where it stands: dials are dots, waits the ways between them.

/** Of a longer schedule a part is shown. */
const MOST_DIALS = 11;

/** The dials to show, each with when it starts in its round and the wait behind it, and which of them is next. */
const dialsOf = ({ attempt, waits, paceSeconds }) => {
  let start = 0;
  const dials = [...waits, 0].map((wait, index) => {
    const dial = { index, wait, label: index ? brief(start) : "at once" };
    start += wait;
    return dial;
  });
  if (attempt > waits.length) {
    dials.at(-1).wait = paceSeconds;
    dials.push({ index: dials.length, wait: 0, label: "and on" });
  }
  const next = Math.min(attempt, dials.length - 1);
  const first = Math.max(0, Math.min(next - MOST_DIALS + 3, dials.length - MOST_DIALS));
  return { next, dials: dials.slice(first, first + MOST_DIALS) };
};

const createDial = () => {
  const [run, mark, label] = [make("i", { class: "run" }), make("b"), make("span")];
  const element = make("li", {}, make("i", { class: "dial" }), make("i", { class: "track" }, run, mark), label);
  const update = ({ index, wait, text, next, left }) => {
    const isRunning = index === next - 1 && left > 0 && wait > 0;
    const done = isRunning ? Math.max(0, 1 - left / wait) : +(index < next);
    put(element, { class: index < next ? "done" : index > next ? false : left > 0 ? "next" : "now" });
    element.style.flexGrow = Math.sqrt(wait + .3);
    run.style.transform = `scaleX(${done})`;
    mark.hidden = !isRunning;
    mark.style.left = `${done * 100}%`;
    write(label, text);
  };
  return { element, update };
};

const retryTimeline = () => {
  const [next, cause, schedule] = [make("p", { class: "when" }), make("p", { class: "faint" }), make("ol", { class: "schedule", "aria-hidden": "true" })];
  const element = make("div", { class: "retry" }, next, cause, schedule);
  const update = (retry, why, passed) => {
    element.hidden = !retry;
    if (!retry) return;
    const left = Math.max(0, (retry.nextDialSeconds ?? 0) - passed);
    const which = retry.attempt < retry.of ? `dial ${retry.attempt + 1} of ${retry.of}` : `all ${some(retry.of, "dial")} of the schedule failed, and it goes on`;
    write(next, `${left > 0 ? `Next dial in ${span(left)}` : "Dialing now"}: ${which}`);
    write(cause, why ? sentence(why) : "");
    const { dials, next: coming } = dialsOf(retry);
    repeat(schedule, dials.map(({ label, ...dial }) => ({ ...dial, text: label, next: coming, left })), createDial);
  };
  return { element, update };
};
