// A list of any length: only the rows in sight are in the page.  A listbox for the keyboard and a screen reader.

import { h } from "./dom.js";

const ROW = 68; // pixels, as in browse.css
const SPARE = 6;

/** ``content(item)``: what a row shows; ``onchoose(item)``: on a click, Enter, or the arrow keys. */
export function virtualList({ label, content, nameOf, onchoose }) {
  let items = [];
  let active = -1;
  const rows = h("div", { class: "rows" });
  const box = h("div", { class: "list", role: "listbox", tabindex: "0", "aria-label": label, onscroll: () => draw(), onkeydown: keys }, rows);
  new ResizeObserver(() => draw()).observe(box);

  function draw() {
    const first = Math.max(0, Math.floor(box.scrollTop / ROW) - SPARE);
    const last = Math.min(items.length, Math.ceil((box.scrollTop + box.clientHeight) / ROW) + SPARE);
    rows.style.height = `${items.length * ROW}px`;
    rows.replaceChildren(...items.slice(first, last).map((item, n) => row(item, first + n)));
    const now = active >= first && active < last ? `case-${active}` : null;
    if (now) box.setAttribute("aria-activedescendant", now);
    else box.removeAttribute("aria-activedescendant");
  }

  function row(item, n) {
    const element = h("div", { id: `case-${n}`, role: "option", class: "item", "aria-selected": n === active ? "true" : "false",
      "aria-setsize": items.length, "aria-posinset": n + 1, "aria-label": nameOf(item), onclick: () => onchoose(item) }, content(item));
    element.style.top = `${n * ROW}px`;
    return element;
  }

  function keys(event) {
    const far = Math.max(1, Math.floor(box.clientHeight / ROW) - 1);
    const step = { ArrowDown: 1, ArrowUp: -1, PageDown: far, PageUp: -far, Home: -items.length, End: items.length }[event.key];
    if (!step || !items.length) return;
    event.preventDefault();
    onchoose(items[Math.max(0, Math.min(items.length - 1, active + step))]);
  }

  return {
    element: box,
    /** Show other items; ``item`` is the one that is looked at. */
    show(next, item) {
      const changed = next !== items;
      items = next;
      active = items.indexOf(item);
      if (changed) box.scrollTop = 0;
      if (active >= 0) {
        const top = active * ROW;
        if (top < box.scrollTop) box.scrollTop = top;
        if (top + ROW > box.scrollTop + box.clientHeight) box.scrollTop = top + ROW - box.clientHeight;
      }
      draw();
    },
  };
}
