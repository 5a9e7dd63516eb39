// The page: asks /state about once a second, and shows the answer.

const [PACE, HIDDEN_PACE, MOST_PAUSE, PATIENCE] = [1000, 15000, 15000, 5000];
/** The gateway ends a connection of ours now and then: one answer may fail before that is spoken of. */
const FAILURES_UNTOLD = 1;
const TICK = matchMedia("(prefers-reduced-motion: reduce)").matches ? 1000 : 200;
const now = () => performance.now() / 1000;

let state, known, timer;
let [heard, failures, due, trouble, isPaused, isAsking] = [0, 0, 0, "", false, false];
const histories = new Map();

// === what is wrong ===

const createProblem = () => {
  const [icon, title, said, todo] = [sign(), make("h2"), make("p"), make("span")];
  const advice = make("p", {}, make("b", {}, "What to do: "), todo);
  const element = make("div", {}, icon, title, said, advice);
  const update = problem => {
    put(element, { class: `problem ${problem.level}` });
    resign(icon, { good: "up", warn: "away", bad: "down" }[problem.level]);
    write(title, problem.title);
    write(said, problem.text);
    write(todo, problem.todo ?? "");
    advice.hidden = !problem.todo;
  };
  return { element, update };
};

const announce = text => write(find("announcer"), text);

/** Says what has changed to who cannot see it. */
const announceChange = problems => {
  const keys = problems.map(({ key }) => key);
  const [began, ended] = [keys.filter(key => !known?.includes(key)), (known ?? []).filter(key => !keys.includes(key)).map(key => `Over: ${key}`)];
  if (!known || began.length || ended.length) announce([...began, ...ended, ...(keys.length ? [] : ["All is well"])].join(". "));
  known = keys;
};

// === what is there ===

const createLink = () => {
  const [icon, name] = [sign(), make("span")];
  const element = make("a", {}, icon, name);
  return { element, update: ([proxy, , level], index) => {
    const kind = { warn: "away", bad: "down" }[level] ?? proxy.database.state;
    put(element, { href: `#proxy-${index}`, class: `state ${kind}` });
    resign(icon, kind);
    write(name, proxy.name);
  } };
};

const show = () => {
  const { proxies, name, config, events } = state;
  const names = proxies.map(proxy => proxy.name);
  for (const old of histories.keys()) if (!names.includes(old)) histories.delete(old);
  for (const proxy of proxies) {
    if (!histories.has(proxy.name)) histories.set(proxy.name, new History());
    histories.get(proxy.name).add(heard, proxy);
  }
  const problems = problemsOf(state, proxy => histories.get(proxy.name).lately("refused"));
  repeat(find("verdict"), problems.length ? problems : [problem("good", "", "All is well", summary(state))], createProblem);
  announceChange(problems);
  document.title = `${{ warn: "\u26a0", bad: "\u2716" }[problems[0]?.level] ?? "\u2713"} ${name || "Postern"}${problems.length ? `: ${some(problems.length, "problem")}` : ""}`;
  write(find("name"), name || "Postern");
  write(find("about"), `Postern ${state.version}, up for ${span(state.uptimeSeconds)}`);
  const items = proxies.map(proxy => [proxy, histories.get(proxy.name), problems.find(found => found.proxy === proxy.name)?.level]);
  repeat(find("proxies"), items, proxyCard);
  repeat(find("jump"), items.length > 2 ? items : [], createLink);
  const all = list => proxies.flatMap(proxy => proxy[list].map(item => ({ ...item, proxy: proxy.name })));
  showSessions(all("sessionList"), sum(state, proxy => proxy.sessions));
  showClients(all("clientList"), sum(state, ({ pool }) => pool.idle + pool.lent));
  showEvents(events);
  showConfig(config);
};

// === keeping contact ===

const isLost = () => failures > FAILURES_UNTOLD;

const showContact = () => {
  const ago = heard ? ` ${span(now() - heard)} ago` : "";
  const [kind, said] = isPaused ? ["paused", `As it was${ago}`]
    : isLost() ? ["lost", `Lost contact${ago}: ${trouble}. ${isAsking ? "Trying" : `Next try in ${Math.max(0, Math.ceil((due - Date.now()) / 1000))} s`}`]
      : heard ? ["live", "Live"] : ["", "Connecting"];
  write(find("contact-text"), said);
  put(document.body, { class: kind });
  find("again").hidden = kind !== "lost";
};

const ask = async path => {
  const answer = await fetch(path, { cache: "no-store", redirect: "error", signal: AbortSignal.timeout(PATIENCE) })
    .catch(error => Promise.reject(Error(error.name === "TimeoutError" ? "it does not answer" : "it cannot be reached")));
  if (!answer.ok) throw Error((await answer.text()).trim() || `it answers ${answer.status}`);
  return answer.json();
};

const poll = async () => {
  clearTimeout(timer);
  if (isPaused || isAsking) return;
  isAsking = true;
  const wasLost = isLost();
  try {
    state = await ask("state");
    [heard, failures] = [now(), 0];
    if (wasLost) announce("Contact with the gateway is back");
    show();
  } catch (error) {
    failures += 1;
    trouble = error.message;
    if (isLost() && !wasLost) announce("Lost contact with the gateway");
  }
  isAsking = false;
  const pause = failures ? Math.min(MOST_PAUSE, PACE * 2 ** (failures - 1)) : document.hidden ? HIDDEN_PACE : PACE;
  due = Date.now() + pause;
  timer = setTimeout(poll, pause);
  showContact();
};

document.addEventListener("visibilitychange", () => document.hidden || poll());
find("again").addEventListener("click", poll);
find("pause").addEventListener("click", () => {
  isPaused = !isPaused;
  write(find("pause"), isPaused ? "Go on" : "Pause");
  showContact();
  poll();
});
setInterval(() => {
  if (document.hidden) return;
  showContact();
  if (state && !isPaused && !isLost()) for (const card of find("proxies").views) card.tick(now() - heard);
}, TICK);
poll();
