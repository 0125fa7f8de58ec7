"""Numbers as a reader wants them: percents, shares, temperatures; a dash where a number is undefined."""

UNKNOWN = "–"  # noqa: RUF001 (a dash, meant)
NO_SHARED_ERROR = "no shared error"


def percent(value: float | None, digits: int = 2) -> str:
    """A fraction as `97.77 %`."""
    return UNKNOWN if value is None else f"{100 * value:.{digits}f} %"


def decimal(value: float | None, digits: int = 4) -> str:
    """A number as `0.2398`."""
    return UNKNOWN if value is None else f"{value:.{digits}f}"


def ratio_of_errors(value: float | None, is_scored: bool) -> str:
    """The members' diversity as `0.8300`; in words where it was computed and has no value.

    Args:
        value: None where it is undefined, or unknown.
        is_scored: Whether the members' predictions were scored.
    """
    return NO_SHARED_ERROR if value is None and is_scored else decimal(value)


def whole(value: float | None) -> str:
    """A count or a rate as `12,345`."""
    return UNKNOWN if value is None else f"{value:,.0f}"


def counted(number: int, noun: str) -> str:
    """`1 step`, `3,128 steps`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def listing(parts: list[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}" if parts else ""


def short(name: str, length: int = 16) -> str:
    """A name that fits, its end cut off where it does not."""
    return name if len(name) <= length else name[: length - 1] + "…"


def class_name(classes: tuple[str, ...], label: int) -> str:
    """The name of a class; its number where the data set has no names."""
    return classes[label] if classes else str(label)
