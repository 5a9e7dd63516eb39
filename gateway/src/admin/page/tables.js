// Sessions, connections to the database, and events.

/** Rows that are shown at one time; the search finds the others. */
const MOST_ROWS = 100;

/** A section with a heading, and a control beside it. */
const headed = (section, id, title, control) => {
  const heading = make("h2", { id: `${id}-title` }, title);
  section.append(make("div", { class: "head" }, heading, control));
  return heading;
};

/** A table with a search. A column is its name, what it shows of an item, and how it looks. */
const tableOf = (id, title, nothing, states, columns) => {
  const section = find(id);
  const search = make("input", { type: "search", placeholder: "Search", "aria-label": `Search ${title.toLowerCase()}`, autocomplete: "off", spellcheck: "false" });
  const heading = headed(section, id, title, search);
  const [body, note] = [make("tbody"), make("p", { class: "faint" })];
  const heads = columns.map(([name, , look]) => make("th", { scope: "col", class: look }, name));
  const table = make("table", {}, make("thead", {}, make("tr", {}, ...heads)), body);
  const scroll = make("div", { class: "scroll", tabindex: "0", role: "region", "aria-labelledby": `${id}-title` }, table);
  section.append(scroll, note);
  const createRow = () => {
    const cells = columns.map(([, , look]) => make("td", { class: look }));
    return { element: make("tr", {}, ...cells), update: item => cells.forEach((cell, index) => {
      const text = columns[index][1](item) ?? "";
      write(cell, text);
      put(cell, { "data-is": text === "waiting" ? text : false });
    }) };
  };
  let [rows, total] = [[], 0];
  const show = () => {
    const wanted = search.value.trim().toLowerCase();
    const found = rows.filter(item => columns.some(([, of]) => `${of(item) ?? ""}`.toLowerCase().includes(wanted)));
    // First what may be in somebody's way, the longest before the others.
    found.sort((one, other) => states.indexOf(one.state) - states.indexOf(other.state) || (other.stateSinceSeconds ?? other.ageSeconds) - (one.stateSinceSeconds ?? one.ageSeconds));
    repeat(body, found.slice(0, MOST_ROWS), createRow);
    put(table, { class: state.proxies.length > 1 ? false : "one" });
    write(heading, `${title} (${count(total)})`);
    scroll.hidden = found.length === 0;
    search.hidden = rows.length === 0;
    write(note, [
      rows.length === 0 && nothing, rows.length && !found.length && "None matches the search.",
      found.length > MOST_ROWS && `${MOST_ROWS} of ${count(found.length)} are shown; search to find the others.`,
      rows.length < total && rows.length && `The gateway lists ${count(rows.length)} of ${count(total)}.`,
    ].filter(Boolean).join(" "));
  };
  search.addEventListener("input", show);
  return (items, all) => {
    [rows, total] = [items, all];
    show();
  };
};

const showSessions = tableOf("sessions", "Sessions of peers", "No peer is connected.", ["waiting", "active", "idle"], [
  ["Session", it => it.id, "number"], ["Proxy", it => it.proxy, "proxy-of"], ["State", it => it.state], ["For", it => span(it.stateSinceSeconds), "number"],
  ["Application", it => it.application, "name"], ["User", it => it.user, "name"], ["Database", it => it.database, "name"],
  ["Peer", it => it.peer, "mono"], ["Connected for", it => span(it.sinceSeconds), "number"],
]);
const showClients = tableOf("clients", "Connections to the database", "None is open.", ["lent", "resetting", "idle"], [
  ["Connection", it => it.id, "number"], ["Proxy", it => it.proxy, "proxy-of"], ["State", it => it.state], ["Database at", it => it.remote, "mono"],
  ["User", it => it.user, "name"], ["Database", it => it.database, "name"], ["Backend", it => it.backendPid, "number"],
  ["From", it => it.local, "mono"], ["Age", it => span(it.ageSeconds), "number"],
]);

const createEvent = () => {
  const [ago, level, said] = [make("span", { class: "faint" }), make("b"), make("span", { class: "text" })];
  return { element: make("li", {}, ago, level, said), update: event => {
    put(level, { class: event.level });
    write(ago, `${roughly(event.agoSeconds)} ago`);
    write(level, event.level);
    write(said, event.proxy ? `${event.proxy}: ${event.text}` : event.text);
  } };
};

/** Events, the newest first. */
const eventList = section => {
  const only = make("input", { type: "checkbox" });
  headed(section, "events", "Recent events", make("label", {}, only, " Warnings and errors only"));
  const list = make("ol", { class: "log", tabindex: "0", "aria-labelledby": "events-title" });
  section.append(list);
  let events = [];
  const show = () => repeat(list, events.filter(({ level }) => !only.checked || level !== "info").toReversed(), createEvent);
  only.addEventListener("change", show);
  return items => {
    events = items;
    show();
  };
};
const showEvents = eventList(find("events"));
