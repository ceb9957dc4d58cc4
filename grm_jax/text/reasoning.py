"""What a model thinks before it answers, `<think>..</think>`: it is not read for scores."""

OPEN, CLOSE = "<think>", "</think>"
# What stands before an answer without reasoning where the template has begun some.
SKIPPED = f"\n{CLOSE}\n\n"


def answer_start(text: str) -> int | None:
    """Where the answer begins: after the reasoning at the beginning of the text.

    Returns:
        0 where there is no reasoning, None where it does not end.
    """
    if not text.lstrip().startswith(OPEN):
        return 0
    end = text.find(CLOSE)
    return None if end < 0 else end + len(CLOSE)
