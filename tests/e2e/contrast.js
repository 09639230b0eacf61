// The contrast of every text that is seen, against what is behind it (WCAG 2: 4.5, or 3 where it is large).
const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
const colour = (text) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = text;
  canvas.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
  return [r, g, b, a / 255];
};
const over = (top, below) => [0, 1, 2].map((n) => top[n] * top[3] + below[n] * (1 - top[3])).concat(1);
const behind = (node) => {
  const layers = [];
  for (let at = node; at; at = at.parentElement) {
    const found = colour(getComputedStyle(at).backgroundColor);
    layers.push(found);
    if (found[3] === 1) break;
  }
  return layers.reverse().reduce((below, top) => over(top, below), [255, 255, 255, 1]);
};
const luminance = ([r, g, b]) => {
  const linear = [r, g, b].map((v) => (v / 255 <= 0.04045 ? v / 255 / 12.92 : ((v / 255 + 0.055) / 1.055) ** 2.4));
  return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2];
};
const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
const poor = [];
let measured = 0;
for (let node = walk.nextNode(); node; node = walk.nextNode()) {
  const parent = node.parentElement;
  if (!node.textContent.trim() || !parent.checkVisibility({ visibilityProperty: true }) || parent.closest(".hidden, .skip, dialog:not([open])")) continue;
  const style = getComputedStyle(parent);
  const ground = behind(parent);
  const [light, dark] = [luminance(over(colour(style.color), ground)), luminance(ground)].sort((a, b) => b - a);
  const ratio = (light + 0.05) / (dark + 0.05);
  const size = parseFloat(style.fontSize);
  const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
  measured += 1;
  if (ratio < (large ? 3 : 4.5)) poor.push([ratio.toFixed(2), node.textContent.trim().slice(0, 40), parent.className]);
}
return { measured, poor };
