// Elements, tooltips and what a screen reader is told.  Every text goes in as text; nothing is ever parsed as HTML.

const SVG = "http://www.w3.org/2000/svg";

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat(Infinity).filter((each) => each !== null && each !== undefined && each !== false));
  return element;
}

/** An element of HTML: h("button", {type: "button", onclick: f}, "Copy"). */
export const h = (tag, attributes, ...children) => filled(document.createElement(tag), attributes, children);

/** An element of SVG. */
export const s = (tag, attributes, ...children) => filled(document.createElementNS(SVG, tag), attributes, children);

/** Put an element where the one of that id stands. */
export function replace(id, element) {
  element.id = id;
  const old = document.getElementById(id);
  const focus = focusInside(old);
  old.replaceWith(element);
  if (focus) element.querySelector(`[data-focus="${CSS.escape(focus)}"]`)?.focus({ preventScroll: true });
  return element;
}

/** What is focused inside of an element, by its data-focus, so that it is focused again when drawn again. */
const focusInside = (element) =>
  element.contains(document.activeElement) ? document.activeElement.getAttribute("data-focus") : null;

/** Tell a screen reader. */
export function announce(text) {
  const place = document.getElementById("status");
  if (place) place.textContent = text;
}

/** ``text`` may be a list of what stands in the button. */
export const button = (text, onclick, attributes) => h("button", { type: "button", onclick, ...attributes }, text);

/** Texts of [data-tip] in a box beside them, while they are focused or pointed at; Escape closes it. */
export function tooltips(root) {
  const box = h("div", { id: "tip", role: "tooltip", hidden: true });
  root.append(box);
  const show = ({ target }) => {
    const of = target.closest?.("[data-tip]");
    if (!of) return hide();
    box.textContent = of.getAttribute("data-tip");
    box.hidden = false;
    of.setAttribute("aria-describedby", "tip");
    const at = of.getBoundingClientRect();
    const left = Math.max(8, Math.min(at.left, innerWidth - box.offsetWidth - 8));
    const under = at.bottom + 6 + box.offsetHeight < innerHeight;
    box.style.left = `${left}px`;
    box.style.top = `${under ? at.bottom + 6 : Math.max(4, at.top - box.offsetHeight - 6)}px`;
  };
  const hide = () => {
    box.hidden = true;
    root.querySelector("[aria-describedby=tip]")?.removeAttribute("aria-describedby");
  };
  root.addEventListener("focusin", show);
  root.addEventListener("focusout", hide);
  root.addEventListener("mouseover", show);
  addEventListener("scroll", hide, { passive: true });
  addEventListener("keydown", (event) => event.key === "Escape" && hide());
}

/** "1 query", "2 queries". */
export const plural = (n, one, many = `${one}s`) => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

/** A text of at most so many letters. */
export const brief = (text, most) => (text.length <= most ? text : `${text.slice(0, most - 1)}…`);

/** A score to read. */
export const score = (value, digits = 3) =>
  value === null || value === undefined || Number.isNaN(value) ? "–" : value.toFixed(digits);

export const signed = (value, digits = 2) => (value < 0 ? "−" : "+") + Math.abs(value).toFixed(digits);
