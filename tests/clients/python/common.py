"""What the programs in Python share: each prints one line for each behaviour, its name, a tab, and what came of it."""
import sys
from datetime import datetime, timezone
from decimal import Decimal

URL = sys.argv[1] if len(sys.argv) > 1 else ""
BEHAVIOURS = []

NUMBER = 42
TEXT = "O'Grüße \"€\" \\ 😀 %s $1"
DECIMAL = Decimal("12345678901234567890.123456789")
MOMENT = datetime(2026, 11, 26, 18, 30, 1, 234567, tzinfo=timezone.utc)
BYTES = bytes(range(256)) * 4096
DOCUMENT = {"a": [1, None, "ü"], "b": {"c": True}}
NUMBERS = [1, 2, 3]
TEXTS = ["a", "b'c", 'd"e', "ü,{}"]

LOOK = "select current_setting('application_name') || ' ' || current_setting('work_mem')"
SLEEPERS = "select count(*) from pg_stat_activity where state = 'active' and query like 'select pg_sleep(600)%'"
ROWS = "select n, repeat('x', 100) from generate_series(0, 19999) n"


def behaviour(function):
    """Registers a behaviour under its function's name."""
    BEHAVIOURS.append(function)
    return function


def same(sent, received):
    """How many values came back as they were sent, or the first that did not."""
    for one, other in zip(sent, received, strict=True):
        if one != other:
            return f"{one!r:.80} came back as {other!r:.80}"
    return f"{len(sent)} values the same"


def line(function, outcome):
    print(function.__name__, str(outcome).replace("\n", " "), sep="\t", flush=True)


def run():
    """Runs all behaviours; an error is an outcome as well."""
    for function in BEHAVIOURS:
        try:
            line(function, function())
        except Exception as error:
            line(function, f"{type(error).__name__}: {error}")


async def run_async():
    """The same for behaviours that are coroutines."""
    for function in BEHAVIOURS:
        try:
            line(function, await function())
        except Exception as error:
            line(function, f"{type(error).__name__}: {error}")
