"""The two themes of a page and its figures: plain colours, chosen to be told apart by everybody.

Members have the hues of Okabe and Ito's palette ("Color Universal Design", 2008), which stay apart under the common
colour vision deficiencies; the dark theme has lighter tints of the same hues in the same order. Tests hold text and
lines to WCAG 2.2's contrast with the paper behind them. No matplotlib here: the page's style sheet needs them, too.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Theme:
    """Colours as `#rrggbb`.

    Attributes:
        name: `light` or `dark`.
        paper: Behind everything.
        surface: Behind cards and code.
        text: Of words, and of the ensemble's line.
        quiet: Of what is said aside.
        line: Of grids and rules.
        members: Of the members' lines, in turn.
        right: Shades for what is right, from none to all.
        wrong: Shades for what is wrong, from little to much.
    """

    name: str
    paper: str
    surface: str
    text: str
    quiet: str
    line: str
    members: tuple[str, ...]
    right: tuple[str, ...]
    wrong: tuple[str, ...]

    @property
    def accent(self) -> str:
        """Of a single series, and of links."""
        return self.members[0]

    @property
    def second(self) -> str:
        """Of what is set against `accent`."""
        return self.members[1]

    def member(self, number: int) -> str:
        """A member's colour, counted from 0; it comes again after `len(members)`."""
        return self.members[number % len(self.members)]


LIGHT = Theme(
    name="light",
    paper="#ffffff",
    surface="#f5f6f8",
    text="#1c2127",
    quiet="#586069",
    line="#d9dee4",
    members=("#0072b2", "#d55e00", "#00795b", "#c2609b", "#a87400", "#2f8fc4"),
    right=("#eef5fa", "#7db4d8", "#0b5c94"),
    wrong=("#fdeee3", "#ee9a5f", "#a83e00"),
)

DARK = Theme(
    name="dark",
    paper="#14171b",
    surface="#1e2329",
    text="#e8ebee",
    quiet="#a2acb6",
    line="#39414a",
    members=("#56b4e9", "#ff8f45", "#35c79b", "#e39bc5", "#e9b93f", "#9fd3f5"),
    right=("#1b2a36", "#2f7fb3", "#a9dbfb"),
    wrong=("#33251c", "#b9652c", "#ffbf94"),
)
