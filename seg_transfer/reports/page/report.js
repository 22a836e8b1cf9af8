"use strict";
(() => {
  const missing = (key) => key === "" || Number.isNaN(key);
  const keyOf = (row, column) => {
    const cell = row.cells[column];
    const number = cell.dataset.number;
    if (number !== undefined) return number === "" ? "" : Number(number);
    return cell.textContent === "\u2013" ? "" : cell.textContent;
  };
  const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));
  const sort = (table, heading) => {
    const column = heading.cellIndex;
    const ascending = heading.getAttribute("aria-sort") !== "ascending";
    const body = table.tBodies[0];
    const rows = Array.from(body.rows, (row) => ({ row, key: keyOf(row, column) }));
    rows.sort((a, b) => {
      if (missing(a.key) || missing(b.key)) return missing(a.key) - missing(b.key);
      return ascending ? compare(a.key, b.key) : compare(b.key, a.key);
    });
    body.append(...rows.map((one) => one.row));
    for (const other of table.tHead.rows[0].cells) other.setAttribute("aria-sort", "none");
    heading.setAttribute("aria-sort", ascending ? "ascending" : "descending");
  };
  for (const table of document.querySelectorAll("table")) {
    for (const heading of table.tHead.rows[0].cells) {
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = heading.textContent;
      button.title = heading.title;
      button.addEventListener("click", () => sort(table, heading));
      heading.replaceChildren(button);
      heading.setAttribute("aria-sort", "none");
    }
  }
})();
