"""The style sheet and the script of every page: system fonts, two themes by the reader's preference, print."""

import base64
import hashlib

from mixmo_fast.report.colours import DARK, LIGHT, Theme


def _variables(theme: Theme) -> str:
    return (
        f"--paper: {theme.paper}; --surface: {theme.surface}; --text: {theme.text}; --quiet: {theme.quiet}; "
        f"--line: {theme.line}; --accent: {theme.accent}; --second: {theme.second};"
    )


# `screen and`: paper is white, whatever its reader prefers on a screen.
STYLE = f"""
:root {{ color-scheme: light dark; {_variables(LIGHT)} }}
@media screen and (prefers-color-scheme: dark) {{ :root {{ {_variables(DARK)} }} }}
*, ::before, ::after {{ box-sizing: border-box; }}
html {{ -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }}
body {{
  margin: 0 auto; max-width: 70rem; padding: 2.5rem clamp(1rem, 4vw, 2.5rem) 4rem;
  background: var(--paper); color: var(--text);
  font: 1rem/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", sans-serif;
  overflow-wrap: break-word;
}}
h1, h2, h3 {{ line-height: 1.2; text-wrap: balance; letter-spacing: -0.01em; }}
h1 {{ margin: 0 0 0.5rem; font-size: clamp(1.6rem, 5vw, 2.25rem); }}
h2 {{ margin: 3.25rem 0 1rem; padding-top: 1rem; border-top: 1px solid var(--line); font-size: 1.35rem; }}
h3 {{ margin: 2rem 0 0.5rem; font-size: 1.05rem; }}
p, ul {{ margin: 0 0 1rem; max-width: 44rem; }}
a {{ color: var(--accent); text-underline-offset: 0.15em; }}
:focus-visible {{ outline: 2px solid var(--accent); outline-offset: 2px; }}
.lead {{ color: var(--quiet); font-size: 1.05rem; }}
nav ul {{
  display: flex; flex-wrap: wrap; gap: 0.35rem 1.25rem; max-width: none;
  margin: 1.5rem 0 0; padding: 0; list-style: none; font-size: 0.95rem;
}}
.cards {{
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 14rem), 1fr)); gap: 0.75rem;
  margin: 0 0 1.5rem;
}}
@media (max-width: 34rem) {{
  .cards {{ grid-template-columns: 1fr 1fr; gap: 0.5rem; }}
  .cards .value {{ font-size: 1.35rem; }}
  th[scope=row] {{ min-width: 9rem; }}
}}
.cards > div {{
  display: flex; flex-direction: column; padding: 0.9rem 1rem; background: var(--surface); border-radius: 0.5rem;
}}
.cards dt {{ font-size: 0.9rem; font-weight: 600; }}
.cards dd {{ margin: 0; }}
.cards .value {{ font-size: 1.6rem; line-height: 1.35; font-variant-numeric: tabular-nums; letter-spacing: -0.01em; }}
.cards .says {{ color: var(--quiet); font-size: 0.85rem; line-height: 1.4; }}
.columns {{
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 26rem), 1fr)); gap: 2rem;
  margin: 1.5rem 0; align-items: start;
}}
.columns > * {{ min-width: 0; }}
figure {{ margin: 0; }}
figure img {{ display: block; width: 100%; height: auto; }}
figure.wide {{ margin: 1.5rem 0; }}
figure.wide img {{ min-width: 44rem; border-radius: 0.25rem; }}
figcaption {{ margin-top: 0.5rem; color: var(--quiet); font-size: 0.875rem; line-height: 1.45; max-width: 44rem; }}
.scroll {{ overflow-x: auto; margin: 0 0 1.5rem; }}
table {{ border-collapse: collapse; font-size: 0.925rem; font-variant-numeric: tabular-nums; }}
caption {{
  padding-bottom: 0.4rem; text-align: left; font-weight: 600;
  position: sticky; left: 0; /* stays in sight while the table scrolls */
}}
th, td {{ padding: 0.35rem 1.25rem 0.35rem 0; border-bottom: 1px solid var(--line); text-align: left; }}
th {{ font-weight: 500; }}
thead th {{ color: var(--quiet); vertical-align: bottom; white-space: nowrap; }}
.number {{ text-align: right; white-space: nowrap; }}
.name {{ white-space: nowrap; }}
:is(th, td):last-child {{ padding-right: 0; }}
.mark {{
  display: inline-block; margin: 0.1rem 0; padding: 0 0.45em; border: 1px solid var(--second); border-radius: 0.35em;
  color: var(--text); font-size: 0.8rem; font-weight: 500; line-height: 1.5; white-space: nowrap;
}}
th button {{ all: unset; cursor: pointer; }}
th button:focus-visible {{ outline: 2px solid var(--accent); outline-offset: 2px; }}
th button::after {{ content: "\\2195"; display: inline-block; width: 1em; text-align: right; opacity: 0.5; }}
th[aria-sort=ascending] button::after {{ content: "\\2191"; opacity: 1; }}
th[aria-sort=descending] button::after {{ content: "\\2193"; opacity: 1; }}
pre {{
  overflow-x: auto; margin: 0 0 1.5rem; padding: 0.9rem 1rem; background: var(--surface); border-radius: 0.5rem;
  font: 0.85rem/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace;
}}
details > summary {{ cursor: pointer; margin-bottom: 0.75rem; color: var(--accent); }}
@media print {{
  body {{ max-width: none; padding: 0; font-size: 10pt; }}
  nav {{ display: none; }}
  h2 {{ break-after: avoid; }}
  .cards, .columns {{ grid-template-columns: 1fr 1fr; }}
  .cards > div {{ border: 1px solid var(--line); }}
  .cards > div, figure, tr {{ break-inside: avoid; }}
  .scroll {{ overflow: visible; }}
  table {{ font-size: 0.75rem; }}
  th, td {{ padding-right: 0.6rem; }}
  thead th {{ white-space: normal; }}
  figure.wide img {{ min-width: 0; }}
  pre {{ white-space: pre-wrap; border: 1px solid var(--line); }}
  th button::after {{ content: none; }}
}}
"""

# Without it the tables are what they are, in the order of the file.
SCRIPT = """
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
"""


def policy() -> str:
    """A content security policy under which a page loads nothing, and runs no script but the one above."""
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    return f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
