"""Numbers and words as a reader wants to see them. Plain text: whoever puts it on a page escapes it."""

from __future__ import annotations

import math

_WORDS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
_FRACTIONS = (
    "accuracy",
    "precision",
    "recall",
    "f1",
    "auroc",
    "aupr",
    "calibration_error",
    "top1",
    "top5",
    "_share",
    "raw_pixels",
)
_SPACE = "\u00a0"  # no line break between a number and its unit


def number(value: float, digits: int = 3) -> str:
    """A number with `digits` significant figures and thousands separated; whole numbers stay whole.

    >>> number(1797), number(0.012345), number(float("nan"))
    ('1,797', '0.0123', 'not a number')
    """
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "infinite" if value > 0 else "minus infinite"
    if float(value).is_integer() and abs(value) < 1e15:
        return f"{int(value):,}"
    if 1e-4 <= abs(value) < 1e6:
        decimals = max(0, digits - 1 - math.floor(math.log10(abs(value))))
        return f"{value:,.{decimals}f}"
    return f"{value:.{digits - 1}e}"


def percent(fraction: float, digits: int = 1) -> str:
    """A fraction in [0, 1] as a percentage, with a no-break space before the sign.

    >>> percent(0.965).replace("\\N{NO-BREAK SPACE}", " ")
    '96.5 %'
    """
    return f"{100 * fraction:.{digits}f}{_SPACE}%" if math.isfinite(fraction) else number(fraction)


def duration(seconds: float) -> str:
    """Seconds as a person says them.

    >>> [duration(s).replace("\\N{NO-BREAK SPACE}", " ") for s in (7.25, 74, 134, 3900)]
    ['7.2 s', '74 s', '2 min 14 s', '1 h 05 min']
    """
    if not math.isfinite(seconds):
        return number(seconds)
    if seconds < 10:
        return f"{seconds:.1f}{_SPACE}s"
    whole = round(seconds)
    if whole < 100:
        return f"{whole}{_SPACE}s"
    if whole < 3600:
        return f"{whole // 60}{_SPACE}min {whole % 60:02d}{_SPACE}s"
    return f"{whole // 3600}{_SPACE}h {whole % 3600 // 60:02d}{_SPACE}min"


def size(count: float) -> str:
    """Bytes in decimal units.

    >>> size(1_250_000_000).replace("\\N{NO-BREAK SPACE}", " ")
    '1.25 GB'
    """
    if not math.isfinite(count):
        return number(count)
    for unit in ("bytes", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{number(count)}{_SPACE}{unit}"
        count /= 1000
    return f"{number(count)}{_SPACE}TB"


def metric(name: str, value: float | str | bool | None) -> str:
    """The value of one entry of `metrics.json`, formatted by its name.

    >>> metric("test/accuracy", 0.9).replace("\\N{NO-BREAK SPACE}", " "), metric("images_seen", 80000)
    ('90.0 %', '80,000')
    """
    if value is None or isinstance(value, bool | str):
        return "none" if value is None else str(value)
    last = name.rsplit("/", 1)[-1].lower()
    if 0 <= value <= 1 and any(word in last for word in _FRACTIONS):
        return percent(value)
    if last.endswith("seconds"):
        return duration(value)
    if last.endswith("bytes"):
        return size(value)
    if "seed" in last:
        return str(value)
    return number(value)


def count_word(count: int) -> str:
    """Small counts in words, others in figures.

    >>> count_word(10), count_word(1797)
    ('ten', '1,797')
    """
    return _WORDS[count] if 0 <= count < len(_WORDS) else f"{count:,}"


def lower_first(text: str) -> str:
    """A name inside a sentence: `Raw pixels` becomes `raw pixels`, while `PCA` and `SimCLR` keep their capitals.

    >>> lower_first("Raw pixels"), lower_first("SimCLR"), lower_first("PCA")
    ('raw pixels', 'SimCLR', 'PCA')
    """
    first = text.split(" ", 1)[0]
    return text[:1].lower() + text[1:] if first[1:] == first[1:].lower() and len(first) > 1 else text
