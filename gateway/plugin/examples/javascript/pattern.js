// Refuses statements that match one of the patterns of its settings: `config: {patterns: ["^\\s*grant\\b"]}`.
//
// A plugin in another language than the gateway's. It has the whole of a JavaScript engine in it, so it has 11 MB where one
// in Rust has a hundredth of that, is named by `source.file`, and needs more memory than a plugin has by default.

import { counter } from "postern:plugin/host@0.1.0";

let patterns = [];

function judge(statement) {
  const text = new TextDecoder().decode(statement.read(0, statement.length()));
  if (!patterns.some((pattern) => pattern.test(text))) {
    return { tag: "pass" };
  }
  counter("refused", 1n);
  const error = { severity: "ERROR", code: "42501", message: "a pattern refuses this", detail: undefined, hint: undefined };
  return { tag: "refuse", val: error };
}

export const hooks = {
  configure(config) {
    const settings = JSON.parse(config);
    if (!Array.isArray(settings.patterns)) {
      throw "patterns is no list; write such as patterns: [\"^drop\"]";
    }
    patterns = settings.patterns.map((pattern) => new RegExp(pattern, "i"));
    return { query: true, parse: true };
  },

  query: judge,
  parse: (name, statement) => judge(statement),

  // What `configure` does not ask for is never called, and has to be there nevertheless.
  onOpening() {},
  onOpened() {},
  onTraffic() {},
  onClosing() {},
  onClosed() {},
  fromClient: () => ({ tag: "pass" }),
  toServer() {},
  fromServer: () => ({ tag: "pass" }),
  toClient() {},
  startup: () => ({ tag: "pass" }),
  error: () => undefined,
  onColumns: () => new Uint32Array(),
  onRow: () => [],
};
