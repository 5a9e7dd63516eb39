// Numbers, spans of time and causes in words.

const count = number => Math.round(number).toLocaleString("en");
const some = (number, noun, nouns = `${noun}s`) => `${count(number)} ${number === 1 ? noun : nouns}`;

/** A span of time, as a person says it. */
const span = seconds => {
  const whole = Math.max(0, Math.floor(seconds));
  const of = unit => Math.floor(whole / unit);
  if (seconds < 9.95) return `${Math.max(0, seconds).toFixed(1)} s`;
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${of(60)} min ${whole % 60} s`;
  return whole < 86400 ? `${of(3600)} h ${of(60) % 60} min` : `${of(86400)} d ${of(3600) % 24} h`;
};
/** The same in few letters, and in one unit. */
const brief = seconds => span(seconds).replace(/\.0| 0 (s|min|h)$/, "");
const roughly = seconds => span(Math.floor(seconds)).replace(/\.0|(?<=[a-z]) .*/, "");

const rate = number => number < 9.95 ? +number.toFixed(1) : count(number);
const bytes = number => {
  const unit = Math.min(4, Math.floor(Math.log2(Math.max(1, number)) / 10));
  const value = number / 1024 ** unit;
  return `${unit && value < 9.95 ? value.toFixed(1) : count(value)} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
};

/** Words that begin with a path or a name stay as they are. */
const sentence = text => text.replace(/^[a-z](?=[a-z]* )/, letter => letter.toUpperCase()).replace(/[^.!?]$/, "$&.");

/** What to do about why a dial failed; the first that fits. */
const REMEDIES = [
  [/starting up|shutting down|in recovery|57P0[123]/i,
    "Wait: the database answers, and is not ready yet. If that lasts, its log says why."],
  [/too many (clients|connections)|connection slots|53300/i,
    "Lower pool.size, or raise the database's max_connections: it takes no more connections."],
  [/cannot resolve/i, "Correct the host in client.addresses, or see why DNS does not know its name."],
  [/no server that will do/i, "See which server is the primary: none is what client.targetSessionAttrs asks for."],
  [/encrypt|certificate|\btls\b/i, "Look at client.tls, and at the Secret that it names."],
  [/refused the login|password|authentication|28P01|28000|3D000/i,
    "Correct the user, the password or the database's name: in the Secret that client.auth names, or in the application."],
  [/secret|cannot log in/i, "See that the Secret of client.auth is there, with username and password."],
  [/refused/i, "Start the database, or correct the port in client.addresses: the host answers, and nothing listens there."],
  [/no such file|permission denied/i, "Start the database, or correct the socket's path in client.addresses."],
  [/no answer|timed out|unreachable|no route/i,
    "Look at what lies between: a NetworkPolicy, a firewall, a wrong address, a host that is down."],
  [/./, "Look whether the database runs, and can be reached from here."],
];
const remedy = cause => REMEDIES.find(([sign]) => sign.test(cause))[1];
