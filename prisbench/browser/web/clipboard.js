// A text on the clipboard; where that is forbidden, a box to copy it from by hand.

import { announce, h } from "./dom.js";

export async function copyText(text, what) {
  try {
    await navigator.clipboard.writeText(text);
    toast(`${what} copied`);
  } catch {
    const area = h("textarea", { readonly: true, rows: 12, "aria-label": what }, text);
    const dialog = h("dialog", { "aria-label": what }, h("p", null, `${what}: copy it from here.`), area,
      h("form", { method: "dialog" }, h("button", null, "Close")));
    dialog.addEventListener("close", () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
    area.select();
  }
}

let waiting = 0;
function toast(text) {
  document.getElementById("toast")?.remove();
  document.body.append(h("div", { id: "toast", "aria-hidden": "true" }, text));
  announce(text);
  clearTimeout(waiting);
  waiting = setTimeout(() => document.getElementById("toast")?.remove(), 2500);
}
