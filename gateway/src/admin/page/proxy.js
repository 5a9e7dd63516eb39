// One proxy: its peers, its pool, its database, in the order of a connection's way.

/** More slots than this are shown as one bar. */
const MOST_SLOTS = 50;
/** Of a longer line only the number is said. */
const MOST_DOTS = 12;
const MODES = { opaque: "bytes as they are", session: "session pooling", transaction: "transaction pooling" };

/** A stop on the way, with a figure and what it counts. */
const stop = (title, ...before) => {
  const [figure, rest] = [make("span"), make("small")];
  const big = make("p", { class: "big" }, ...before, figure, " ", rest);
  const element = make("section", { class: "stop" }, make("h3", {}, title), big);
  const say = (text, more) => {
    write(figure, text);
    write(rest, more);
  };
  return { element, big, say };
};

const peersStop = () => {
  const { element, say } = stop("Peers, which dial us");
  const tell = facts(element, ["queries", "transactions", "to the database", "to peers", "refused"]);
  const [view, noun, most] = [rateChart(), make("span"), make("span")];
  element.append(view.element, make("p", { class: "caption" }, noun, most));
  const update = (proxy, history) => {
    const { sessions, maxPeers, totals } = proxy;
    say(count(sessions), `${sessions === 1 ? "session" : "sessions"} of at most ${count(maxPeers)}`);
    const last = history.samples.at(-1);
    const told = (name, all, show) => {
      const now = last.rate(name);
      return totals[name] ? `${all(totals[name])}${now === undefined ? "" : `, ${show(now)}/s`}` : null;
    };
    tell("queries", told("queries", count, rate));
    tell("transactions", told("transactions", count, rate));
    tell("to the database", told("bytesToDatabase", bytes, bytes));
    tell("to peers", told("bytesToPeers", bytes, bytes));
    tell("refused", totals.refused ? count(totals.refused) : null);
    const [name, show] = totals.queries ? ["queries", rate] : ["bytesToPeers", bytes];
    const highest = view.update(history, name, it => `${show(it)} ${name} a second`);
    write(noun, totals.queries ? "queries" : "bytes to peers");
    write(most, `at most ${show(highest)}/s`);
  };
  return { element, update };
};

const createSlot = () => {
  const element = make("i");
  return { element, update: ([kind, number]) => {
    put(element, { class: kind });
    element.style.flexGrow = number;
  } };
};
const createKey = () => {
  const [key, text] = [make("i"), make("span")];
  return { element: make("li", {}, key, text), update: ([kind, said]) => {
    put(key, { class: `key ${kind}` });
    write(text, said);
  } };
};
const createDot = () => ({ element: make("i"), update() {} });

const poolStop = () => {
  const { element, say } = stop("Pool, which lends connections");
  const [slots, legend, dots, queued] = [make("div", { class: "slots", role: "img" }), make("ul", { class: "legend" }), make("span", { class: "dots" }), make("span")];
  const [queue, view] = [make("p", { class: "queue" }, dots, queued), poolChart()];
  element.append(slots, legend, queue, view.element, make("p", { class: "caption" }, make("span", {}, "3 minutes ago"), make("span", {}, "now")));
  const update = ({ pool }, history) => {
    element.hidden = !pool.size;
    const { size, lent, idle, dialing, waiting } = pool;
    say(count(lent), `lent of at most ${count(size)}${pool.paused ? ", paused" : ""}`);
    const kinds = Object.entries({ lent, idle, dialing, free: Math.max(0, size - lent - idle - dialing) });
    const words = kinds.map(([kind, number]) => `${count(number)} ${kind === "free" ? "not open" : kind}`);
    const isMany = size > MOST_SLOTS;
    repeat(slots, isMany ? kinds : kinds.flatMap(([kind, number]) => Array(number).fill([kind, 1])), createSlot);
    put(slots, { class: isMany ? "slots many" : "slots", "aria-label": words.join(", ") });
    repeat(legend, kinds.map(([kind], index) => [kind, words[index]]), createKey);
    put(queue, { class: waiting ? "queue waiting" : "queue" });
    repeat(dots, Array(Math.min(waiting, MOST_DOTS)).fill(), createDot);
    write(queued, waiting ? `${count(waiting)} waiting, the longest for ${span(pool.longestWaitSeconds)}` : "nobody waits");
    view.update(history);
  };
  return { element, update };
};

const createAddress = () => {
  const element = make("li");
  return { element, update: ([address, isUsed]) => {
    put(element, { class: isUsed ? "mono used" : "mono" });
    write(element, isUsed ? `${address}, in use` : address);
  } };
};

const databaseStop = () => {
  const icon = sign();
  const { element, big, say } = stop("Database", icon, " ");
  const addresses = make("ul", { class: "addresses" });
  element.append(addresses);
  const tell = facts(element, ["dials", "last error"]);
  const update = ({ database, totals: { dials, dialsFailed } }, passed) => {
    const { state, sinceSeconds, lastError, current, retry } = database;
    put(big, { class: `big state ${state}` });
    resign(icon, state);
    say(state, sinceSeconds == null ? "" : `for ${span(sinceSeconds + passed)}`);
    repeat(addresses, database.addresses.map(address => [address, address === current && state === "up"]), createAddress);
    tell("dials", `${count(dials)}${dialsFailed ? `, of which ${count(dialsFailed)} failed` : ""}`);
    // The one that is in the way now is told with the schedule.
    tell("last error", lastError && !retry ? `${roughly(lastError.agoSeconds + passed)} ago: ${lastError.text}` : null);
  };
  return { element, update };
};

const arrow = () => draw("svg", { class: "arrow", viewBox: "0 0 18 18", "aria-hidden": "true" }, draw("path", { d: "M1 9h15M11 4l5 5-5 5" }));

const proxyCard = () => {
  const [name, mode, listens] = [make("h2"), make("span", { class: "tag" }), make("span", { class: "faint mono" })];
  const [peers, pool, database, retry] = [peersStop(), poolStop(), databaseStop(), retryTimeline()];
  const way = make("div", { class: "way" }, peers.element, arrow(), pool.element, arrow(), database.element);
  const element = make("article", {}, make("header", {}, name, mode, listens), way, retry.element);
  let shown;
  /** What moves between two answers. */
  const tick = passed => {
    database.update(shown, passed);
    retry.update(shown.database.retry, shown.database.cause, passed);
  };
  const update = ([proxy, history, level], index) => {
    shown = proxy;
    put(element, { id: `proxy-${index}`, class: `card proxy ${level ?? ""}` });
    write(name, proxy.name);
    write(mode, MODES[proxy.mode] ?? proxy.mode);
    write(listens, `${proxy.network} ${proxy.address}`);
    peers.update(proxy, history);
    pool.update(proxy, history);
    tick(0);
  };
  return { element, update, tick };
};
