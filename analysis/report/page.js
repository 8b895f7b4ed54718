"use strict";
// Without script the tables and figures stand as they are; everything below adds to them.

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// Headings of tables become buttons that sort, which keyboards and screen readers know.
for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  const body = table.tBodies[0];
  const original = [...body.rows];
  const next = { none: "descending", descending: "ascending", ascending: "none" };
  heads.forEach((head, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const order = next[head.getAttribute("aria-sort") ?? "none"];
      for (const other of heads) other.removeAttribute("aria-sort");
      if (order !== "none") head.setAttribute("aria-sort", order);
      const rows =
        order === "none" ? original : sorted(original, index, order === "ascending" ? 1 : -1);
      body.replaceChildren(...rows);
    });
  });
}

function sorted(rows, index, sign) {
  const key = (row) => row.cells[index].dataset.sort;
  return [...rows].sort((one, other) => {
    const [a, b] = [key(one), key(other)];
    if (a !== undefined && b !== undefined) return sign * (Number(a) - Number(b));
    // a cell without a number stands last
    if (a !== undefined || b !== undefined) return a === undefined ? 1 : -1;
    return sign * one.cells[index].textContent.localeCompare(other.cells[index].textContent);
  });
}

// A link into a folded part opens it.
function openTarget() {
  const target =
    location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  for (let each = target; each; each = each.parentElement) {
    if (each.tagName === "DETAILS") each.open = true;
  }
  if (target) target.scrollIntoView();
}
addEventListener("hashchange", openTarget);
openTarget();

const root = document.documentElement;
document.getElementById("reader").hidden = false;
const toggle = document.getElementById("theme");
const prefersDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme ?? (prefersDark.matches ? "dark" : "light")) === "dark";
const labelToggle = () => {
  toggle.textContent = isDark() ? "Light colours" : "Dark colours";
};
toggle.addEventListener("click", () => {
  root.dataset.theme = isDark() ? "light" : "dark";
  labelToggle();
});
prefersDark.addEventListener("change", labelToggle);
labelToggle();

// Links of runs go to the MLflow that the reader names. A page that was sent to somebody else
// knows nothing of a server on their machine.
const field = document.getElementById("server");
function serverOf(text) {
  const address = text.trim().replace(/\/+$/, "");
  return /^https?:\/\/\S+$/.test(address) ? address : "";
}
function runAddress(run) {
  const server = serverOf(field.value);
  const [experiment, id] = run.split("/");
  return server && `${server}/#/experiments/${experiment}/runs/${id}${document.body.dataset.view}`;
}
function linkRuns() {
  for (const place of document.querySelectorAll("[data-run]")) {
    const address = runAddress(place.dataset.run);
    const text = place.textContent;
    if (!address) {
      place.textContent = text;
      continue;
    }
    const link = document.createElement("a");
    link.href = address;
    link.textContent = text;
    place.replaceChildren(link);
  }
}
field.value = document.body.dataset.server;
try {
  field.value ||= localStorage.getItem("occse-mlflow") ?? "";
} catch {
  /* private windows have no storage */
}
field.addEventListener("change", () => {
  try {
    localStorage.setItem("occse-mlflow", field.value);
  } catch {
    /* the links work without it */
  }
  linkRuns();
});
field.form.addEventListener("submit", (event) => event.preventDefault());
linkRuns();
