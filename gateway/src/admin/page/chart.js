// What has been for as long as this page has been open: at most three minutes.

const SPAN = 180;
const [WIDE, HIGH] = [600, 46];
/** Between two answers further apart than this nothing is known. */
const GAP = 5;

/** The samples of one proxy. */
class History {
  samples = [];

  add(at, { pool, database, totals }) {
    // A gateway that was started anew counts from nothing.
    if (totals.sessions < this.samples.at(-1)?.totals.sessions) this.samples = [];
    const { size, lent, idle, waiting } = pool;
    const sample = { at, totals, size, lent, idle, waiting, isOut: /away|down/.test(database.state) };
    this.samples.push(sample);
    while (this.samples[0].at < at - SPAN) this.samples.shift();
    const before = this.samples.findLast(other => other.at < at - 2.5) ?? this.samples[0];
    sample.rate = name => before === sample ? undefined : Math.max(0, totals[name] - before.totals[name]) / (at - before.at);
  }

  /** By how much a total has grown within the last minute. */
  lately(name) {
    const last = this.samples.at(-1);
    return last.totals[name] - this.samples.find(({ at }) => at >= last.at - 60).totals[name];
  }
}

/** A chart with a path of each of these classes; `trace` writes one, as a line or, down to `low`, as an area. */
const chart = (...names) => {
  const paths = Object.fromEntries(names.map(name => [name, draw("path", { class: name })]));
  const element = draw("svg", { class: "history", viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", role: "img" }, ...Object.values(paths));
  const trace = (name, samples, now, most, high, low) => {
    const runs = [];
    samples.forEach((sample, index) => {
      if (!(sample.at - samples[index - 1]?.at < GAP)) runs.push([]);
      runs.at(-1).push(sample);
    });
    const edge = (run, of) => run.map(sample =>
      `${(((sample.at - now) / SPAN + 1) * WIDE).toFixed(1)} ${(HIGH - 5 - of(sample) / most * (HIGH - 7)).toFixed(1)}`).join("L");
    put(paths[name], { d: runs.map(run => `M${edge(run, high)}${low ? `L${edge(run.toReversed(), low)}Z` : ""}`).join("") });
  };
  const tell = said => put(element, { "aria-label": `The last three minutes: at most ${said}.` });
  return { element, trace, tell };
};

/** How the pool breathes. */
const poolChart = () => {
  const { element, trace, tell } = chart("idle", "lent", "wait", "size", "out");
  const [none, lent, open, all] = [() => 0, it => it.lent, it => it.lent + it.idle, it => it.lent + it.idle + it.waiting];
  const update = ({ samples }) => {
    const now = samples.at(-1).at;
    const highest = of => Math.max(1, ...samples.map(of));
    const most = Math.max(highest(it => it.size), highest(all));
    trace("lent", samples, now, most, lent, none);
    trace("idle", samples, now, most, open, lent);
    trace("wait", samples, now, most, all, open);
    trace("size", samples, now, most, it => it.size);
    trace("out", samples.filter(it => it.isOut), now, most, none);
    tell(`${Math.max(...samples.map(lent))} lent, ${Math.max(...samples.map(it => it.waiting))} waiting`);
  };
  return { element, update };
};

/** How much passes. */
const rateChart = () => {
  const { element, trace, tell } = chart("base", "rate");
  const update = ({ samples }, name, show) => {
    const of = sample => sample.rate(name);
    const [now, known] = [samples.at(-1).at, samples.slice(1)];
    const most = Math.max(0, ...known.map(of));
    trace("base", samples, now, 1, () => 0);
    trace("rate", known, now, most || 1, of);
    tell(show(most));
    return most;
  };
  return { element, update };
};
