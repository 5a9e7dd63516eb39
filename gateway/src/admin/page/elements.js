// Elements. Whatever the gateway said becomes text, and never markup.

const find = id => document.getElementById(id);

/** Writes attributes; `false` takes one away. */
const put = (element, attributes) => {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === false || value == null) element.removeAttribute(name);
    else if (element.getAttribute(name) !== `${value}`) element.setAttribute(name, value);
  }
  return element;
};
const filled = (element, attributes, inside) => {
  put(element, attributes).append(...inside);
  return element;
};
const make = (name, attributes = {}, ...inside) => filled(document.createElement(name), attributes, inside);
const draw = (name, attributes = {}, ...inside) =>
  filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, inside);

/** Writes a text, unless it is there: what has not changed stays selected. */
const write = (element, text) => {
  if (element.textContent !== `${text}`) element.textContent = text;
};

/** One child of `parent` for each item. `create` makes an element, and what updates it with an item. */
const repeat = (parent, items, create) => {
  const views = parent.views ??= [];
  while (views.length > items.length) views.pop().element.remove();
  items.forEach((item, index) => {
    if (!views[index]) parent.append((views[index] = create()).element);
    views[index].update(item, index);
  });
};

/** Shapes that say the same as their colours. */
const SIGNS = {
  up: "M3 12a9 9 0 1 0 18 0a9 9 0 1 0 -18 0M8 12.5l3 3 5.5-6.5",
  away: "M12 3.5 22 20.5H2ZM12 10v5M12 17.7v.1",
  down: "M8 2.5h8L21.5 8v8L16 21.5H8L2.5 16V8ZM9 9l6 6M15 9l-6 6",
  unknown: "M3 12a9 9 0 1 0 18 0a9 9 0 1 0 -18 0M8.5 12h7",
};
const sign = () => draw("svg", { viewBox: "0 0 24 24", "aria-hidden": "true", class: "sign" }, draw("path"));
const resign = (icon, name) => put(icon.firstChild, { d: SIGNS[name] ?? SIGNS.unknown });

/** A list of terms; what writes one, and leaves it out where it has no value. */
const facts = (parent, names) => {
  const known = Object.fromEntries(names.map(name => [name, [make("dt", {}, name), make("dd")]]));
  parent.append(make("dl", { class: "facts" }, ...Object.values(known).flat()));
  return (name, text) => {
    for (const part of known[name]) part.hidden = text == null || text === "";
    write(known[name][1], text ?? "");
  };
};
