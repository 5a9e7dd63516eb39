// The configuration that is served.

const createSetting = () => {
  const [path, value] = [make("td"), make("td")];
  return { element: make("tr", {}, path, value), update: ({ proxy, path: where, value: what, origin, note }) => {
    put(path.parentNode, { class: origin });
    write(path, `${proxy ?? ""} ${where}`);
    write(value, `${typeof what === "string" ? what : JSON.stringify(what)}${note ? ` (${note})` : ""}`);
  } };
};

const configView = section => {
  headed(section, "configuration", "Configuration", "");
  const tell = facts(section, ["state", "generation", "SHA-256", "not served", "needs a restart"]);
  const [rows, known] = [make("tbody"), make("summary")];
  const all = make("details", { hidden: "" }, known, make("p", { class: "faint" }, "What is bold was written; the rest are defaults."), make("table", {}, rows));
  section.append(all);
  let shown;
  /** Asked once for each configuration. */
  const showSettings = async hash => {
    shown = hash;
    const answer = await ask("settings");
    const settings = [...answer.settings, ...answer.proxies.flatMap(({ name, settings }) => settings.map(setting => ({ ...setting, proxy: name })))];
    all.hidden = false;
    write(known, `All ${count(settings.length)} settings`);
    repeat(rows, settings, createSetting);
  };
  return ({ state, generation, hash, refused, restartRequired }) => {
    tell("state", state === "applied" ? "served by every worker" : generation ? "the one before the last edit is served" : "none is served yet");
    tell("generation", generation);
    tell("SHA-256", hash);
    tell("not served", refused?.reason);
    tell("needs a restart", restartRequired.join("; "));
    // What has failed is tried again with the next answer.
    if (hash && hash !== shown) showSettings(hash).catch(() => shown = null);
  };
};
const showConfig = configView(find("configuration"));
