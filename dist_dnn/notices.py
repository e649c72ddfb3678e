"""Lines for people, on standard error, that leave a progress bar in one piece."""

import sys

_is_silent = False


def silence() -> None:
    """From now on say nothing: another process has the word."""
    global _is_silent
    _is_silent = True


def speak() -> None:
    """From now on say what there is to say."""
    global _is_silent
    _is_silent = False


def is_silent() -> bool:
    """Whether another process has the word."""
    return _is_silent


def warn(text: str) -> None:
    """Say what went otherwise than planned, in one line, while the work goes on."""
    say(f"warning: {' '.join(text.split())}")


def complain(what: BaseException | str) -> None:
    """Say in one line what is wrong, and what was noted about it on the way."""
    whole = "; ".join([str(what), *getattr(what, "__notes__", ())])
    say(f"error: {' '.join(whole.split())}")


def say(line: str) -> None:
    """Print a line on standard error."""
    if _is_silent:
        return
    if "tqdm" in sys.modules:  # there may be a bar
        sys.modules["tqdm"].tqdm.write(line, file=sys.stderr)
    else:
        print(line, file=sys.stderr, flush=True)
