// Texts that do not stand out from their ground as WCAG 2.2 AA asks for: 4.5, and 3 where they are large.
const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
const parts = colour => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = colour;
  canvas.fillRect(0, 0, 1, 1);
  const [red, green, blue, alpha] = canvas.getImageData(0, 0, 1, 1).data;
  return [red, green, blue, alpha / 255];
};
const over = (upper, lower) => [0, 1, 2].map(index => upper[index] * upper[3] + lower[index] * (1 - upper[3])).concat(1);
const ground = element => {
  const chain = [];
  for (let node = element; node; node = node.parentElement) chain.unshift(parts(getComputedStyle(node).backgroundColor));
  return chain.reduce((lower, upper) => over(upper, lower), [255, 255, 255, 1]);
};
const light = colour => colour.slice(0, 3).map(part => part / 255)
  .map(part => part <= .04045 ? part / 12.92 : ((part + .055) / 1.055) ** 2.4)
  .reduce((sum, part, index) => sum + part * [.2126, .7152, .0722][index], 0);
const opacity = element => element ? getComputedStyle(element).opacity * opacity(element.parentElement) : 1;
const weak = [];
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some(node => node.nodeType === 3 && node.data.trim());
  if (!own || !element.checkVisibility() || element.closest(".unseen, .skip, noscript, script")) continue;
  const [style, back] = [getComputedStyle(element), ground(element)];
  const colour = parts(style.color);
  const front = over([...colour.slice(0, 3), colour[3] * opacity(element)], back);
  const [high, low] = [light(front), light(back)].sort((one, other) => other - one);
  const size = parseFloat(style.fontSize);
  const least = size >= 24 || (size >= 18.66 && style.fontWeight >= 700) ? 3 : 4.5;
  const ratio = (high + .05) / (low + .05);
  if (ratio < least) weak.push(`${element.textContent.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
}
return weak;
