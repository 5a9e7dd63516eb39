// What is wrong, the worst first, and what to do about it.

/** Seconds: a shorter wait is what a pool is for; a longer one is an outage for who waits. */
const [LONG_WAIT, TOO_LONG_WAIT] = [1, 10];
/** How long something that is over is still spoken of. */
const RECENT = 60;

/** `key` is what is announced: it has no figures that move. */
const problem = (level, key, title, text, todo) => ({ level, key, title, text, todo });
const isAway = ({ database }) => database.state === "away" || database.state === "down";
const wait = number => number === 1 ? "waits" : "wait";

const problemOfDatabase = proxy => {
  const { name, pool, database: { state, cause, lastError, sinceSeconds } } = proxy;
  const waits = pool.waiting ? ` ${some(pool.waiting, "peer")} ${wait(pool.waiting)} for it, the longest for ${span(pool.longestWaitSeconds)}.` : "";
  const why = (isAway(proxy) && cause) || lastError?.text || "the last dial failed";
  if (isAway(proxy)) {
    const [level, is] = state === "down" ? ["bad", "is down"] : ["warn", "is away"];
    return problem(level, `${name}: the database ${is}`, `${name}: the database ${is}, for ${span(sinceSeconds)}`, sentence(why) + waits,
      `${remedy(why)} The gateway goes on trying by itself, and serves who waits as soon as the database is back.`);
  }
  // One that came after the database was there, or before it ever was: its login, say.
  const isNews = lastError?.agoSeconds < RECENT && (state === "unknown" || lastError.agoSeconds < sinceSeconds);
  return isNews && problem("warn", `${name}: an error`, `${name}: an error ${span(lastError.agoSeconds)} ago`, sentence(why) + waits, remedy(why));
};

const problemOfPool = proxy => {
  const { name, mode, pool, sessionList } = proxy;
  const { waiting, longestWaitSeconds: longest, lent, size, dialing } = pool;
  const who = `${some(waiting, "peer")} ${wait(waiting)}`;
  if (pool.paused) {
    return problem("warn", `${name}: the pool is paused`, `${name}: the pool is paused`, `No connection is lent until it is resumed. ${who}.`,
      "Say RESUME on the console, once what it was paused for is done.");
  }
  if (isAway(proxy) || !waiting || longest < LONG_WAIT) return null;
  const [keeper] = sessionList.filter(session => session.state === "active").sort((one, other) => other.stateSinceSeconds - one.stateSinceSeconds);
  const kept = keeper ? ` Session ${keeper.id} (${keeper.application || keeper.user || keeper.peer}) has had its connection the longest, for ${span(keeper.stateSinceSeconds)}.` : "";
  const better = mode === "session" ? "let sessions share them (pool.mode: transaction)" : "let the application keep them for a shorter time";
  const isFull = lent >= size;
  return problem(longest < TOO_LONG_WAIT ? "warn" : "bad", `${name}: peers wait for a connection`,
    `${name}: ${who} for a connection, the longest for ${span(longest)}`,
    (isFull ? `All ${count(size)} connections are lent.` : `${count(lent)} of ${some(size, "connection")} are lent, ${count(dialing)} are being dialed.`) + kept,
    isFull ? `Raise pool.size, if the database has room for more connections, or ${better}.` : "Look why the database takes so long to let connections in.");
};

const problemOfPeers = ({ name, sessions, maxPeers }) => sessions >= 0.9 * maxPeers && problem(
  sessions < maxPeers ? "warn" : "bad", `${name}: hardly a place for more peers`, `${name}: ${count(sessions)} of ${some(maxPeers, "peer")}`,
  "Who comes beyond that is refused.", "Raise server.maxPeers, or see why the application opens so many connections.");

const problemOfRefusals = ({ name }, refused) => refused > 0 && problem(
  "warn", `${name}: peers were refused`, `${name}: ${some(refused, "peer")} refused within the last minute`,
  "They were told why.", "Read the recent events below: each refusal has its reason there.");

const problemsOfGateway = ({ draining, workers, silentWorkers, config: { refused, generation, restartRequired } }) => [
  refused && (generation
    ? problem("warn", "An edit is not served", "The last edit of the configuration is not served", sentence(refused.reason), "Correct it; what came before it stays in force until then.")
    : problem("bad", "No configuration", "There is no configuration to serve yet", sentence(refused.reason), "Correct it; it is taken over at once.")),
  restartRequired?.length && problem("warn", "A restart is needed", "A part of the configuration needs a restart",
    restartRequired.map(sentence).join(" "), "Restart the pod when it suits you; all the rest is in force."),
  silentWorkers > 0 && problem("bad", "A worker does not answer", `${some(silentWorkers, "worker")} of ${count(workers)} ${silentWorkers === 1 ? "does" : "do"} not answer`,
    "What it knows is missing here, and its peers are not served.", "Restart the pod if that lasts, and report it with the log."),
  draining && problem("warn", "Draining", "The gateway is draining", "It was asked to end: it is not ready any more, and ends once no peer is left.", "Nothing, if the pod was meant to go."),
];

/** All problems; `refusedBy` says how many peers a proxy has refused lately. */
const problemsOf = (state, refusedBy) => {
  const ofProxy = proxy => [problemOfDatabase(proxy), problemOfPool(proxy), problemOfPeers(proxy), problemOfRefusals(proxy, refusedBy(proxy))]
    .map(found => found && { ...found, proxy: proxy.name });
  const found = [...problemsOfGateway(state), ...state.proxies.flatMap(ofProxy)].filter(Boolean);
  return found.sort((one, other) => (other.level === "bad") - (one.level === "bad"));
};

/** The sum over all proxies. */
const sum = ({ proxies }, of) => proxies.reduce((total, proxy) => total + (of(proxy) || 0), 0);

/** One sentence for when nothing is wrong. */
const summary = state => {
  const up = sum(state, ({ database }) => database.state === "up");
  const others = state.proxies.length - up;
  const waiting = sum(state, ({ pool }) => pool.waiting);
  return `${[up && `${some(up, "database is", "databases are")} up`, others && `${count(others)} not dialed yet`].filter(Boolean).join(", ")}; \
${some(sum(state, proxy => proxy.sessions), "session")}; ${waiting ? `${some(waiting, "peer")} in line for less than a second` : "nobody waits"}.`;
};
