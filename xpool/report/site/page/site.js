"use strict";
// The list of sections, the theme, and what a table gets beside `sortable` (a library, in the file of that name): buttons in its
// heads, so that the keyboard sorts too, and a filter if it has many rows.
(() => {
  const MANY_ROWS = 8;

  const made = (tag, parts, settings) => {
    const element = Object.assign(document.createElement(tag), settings);
    element.append(...parts);
    return element;
  };

  const sections = [...document.querySelectorAll("main h2")];
  if (sections.length > 2) {
    const items = sections.map((section, number) => {
      section.id ||= `section-${number}`;
      return made("li", [made("a", [section.textContent], { href: `#${section.id}` })]);
    });
    const contents = made("nav", [made("ul", items)], { id: "contents", ariaLabel: "On this page" });
    document.querySelector("main h1").after(contents);
  }

  document.querySelectorAll("table.sortable").forEach((table) => {
    table.tHead.querySelectorAll("th:not(.no-sort)").forEach((head) => {
      const name = head.textContent;
      head.replaceChildren(made("button", [name], { type: "button", title: `Sort by ${name}` }));
    });
    const rows = () => [...table.querySelectorAll("tbody:not(.heading) tr")];
    if (rows().length < MANY_ROWS) return;
    const shown = made("output", []);
    const field = made("input", [], { type: "search", size: 16 });
    field.addEventListener("input", () => {
      const asked = field.value.trim().toLowerCase();
      rows().forEach((row) => { row.hidden = !row.textContent.toLowerCase().includes(asked); });
      table.querySelectorAll("tbody.heading").forEach((heading) => {
        heading.hidden = ![...heading.nextElementSibling.rows].some((row) => !row.hidden);
      });
      const left = rows().filter((row) => !row.hidden).length;
      shown.value = asked ? `${left} of ${rows().length} rows` : "";
    });
    const tools = made("div", [made("label", ["Filter rows ", field]), shown], { className: "tools" });
    table.parentElement.before(tools);
  });

  // last: a browser may refuse to keep the choice
  const root = document.documentElement;
  const theme = document.getElementById("theme");
  const dark = () => (root.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "light")) === "dark";
  const label = () => { theme.textContent = dark() ? "Light" : "Dark"; };
  const kept = localStorage.getItem("theme");
  if (kept) root.dataset.theme = kept;
  theme.addEventListener("click", () => {
    root.dataset.theme = dark() ? "light" : "dark";
    localStorage.setItem("theme", root.dataset.theme);
    label();
  });
  theme.setAttribute("aria-label", "Switch between light and dark");
  label();
  theme.hidden = false;
})();
