// Tables are sorted by a click on a heading; without it they stay in the order of the file.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  const key = (row, column) => row.cells[column].dataset.sort ?? row.cells[column].textContent;
  heads.forEach((head, column) => {
    const isNumber = head.classList.contains("number");
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      const first = isNumber ? "descending" : "ascending";
      const other = isNumber ? "ascending" : "descending";
      const next = now === first ? other : first;
      const sign = next === "ascending" ? 1 : -1;
      for (const one of heads) one.setAttribute("aria-sort", one === head ? next : "none");
      const rows = [...table.tBodies[0].rows];
      rows.sort((one, two) => {
        const [a, b] = [key(one, column), key(two, column)];
        if (a === "" || b === "") return (a === "") - (b === "");  // what is missing stays last
        return sign * (isNumber ? a - b : a.localeCompare(b, "en", { numeric: true }));
      });
      table.tBodies[0].append(...rows);
    });
  });
}
