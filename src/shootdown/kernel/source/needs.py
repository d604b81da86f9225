"""Which patch of a series needs which later one."""

from __future__ import annotations


def needed(broken: dict[int, list[str]], patches: int) -> list[str]:
    """Sentences on which patch needs which later one: the first after which what it broke is mended."""
    found = []
    for number in range(1, patches + 1):
        fresh = set(broken.get(number, ())) - set(broken.get(number - 1, ()))
        mended = next((n for n in range(number + 1, patches + 1) if not fresh & set(broken.get(n, ()))), None)
        if fresh:
            found.append(
                f"patch {number} needs {mended}" if mended else f"patch {number} breaks {'; '.join(sorted(fresh))}"
            )
    return found
