"use strict";
// Sorting: each heading becomes a button, which keyboards and screen readers know; without script the tables stand as they are.
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const original = [...body.rows];
  heads.forEach((head, place) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const order = { none: "descending", descending: "ascending", ascending: "none" }[head.getAttribute("aria-sort") ?? "none"];
      for (const other of heads) other.removeAttribute("aria-sort");
      if (order !== "none") head.setAttribute("aria-sort", order);
      body.replaceChildren(...(order === "none" ? original : sorted(original, place, order === "ascending" ? 1 : -1)));
    });
  });
}

function sorted(rows, place, sign) {
  const key = (row) => row.cells[place].dataset.sort;
  return [...rows].sort((one, other) => {
    const [a, b] = [key(one), key(other)];
    if (a !== undefined && b !== undefined) return sign * (Number(a) - Number(b));
    if (a !== undefined || b !== undefined) return a === undefined ? 1 : -1; // what has no number stands last
    return sign * one.cells[place].textContent.localeCompare(other.cells[place].textContent);
  });
}

const root = document.documentElement;
const toggle = document.getElementById("theme");
const isDark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
const label = () => { toggle.textContent = isDark() ? "Light colours" : "Dark colours"; };
toggle.hidden = false;
toggle.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  label();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", label);
label();
