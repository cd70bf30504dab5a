"""What subjects are called: by their source, like ``mug-anna``, and by their id, like ``mug-3f9c21a07e``.

A name is for people: no method sees it, and neither ids nor digests depend on it.

Knows: how a subject is named to a reader, which one a reader means.  Does not know: tables, files.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from prisbench.errors import UnknownNameError, UsageError

MOST_CANDIDATES = 6
"""Subjects that a message lists."""


def plain_name(name: str) -> str | None:
    """A source's name for a subject as one line of text; None where nothing is left of it."""
    return " ".join(name.split()) or None


def title(id: str, name: str | None) -> str:
    """``mug-anna (mug-3f9c21a07e)``; the id alone where there is no other name."""
    return f"{name} ({id})" if name and name != id else id


def listed(names: Mapping[str, str], most: int = MOST_CANDIDATES) -> str:
    """The titles of the first subjects of id -> name, and how many more there are."""
    shown = [title(id, name) for id, name in list(names.items())[:most]]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")


def find_subject(said: str, names: Mapping[str, str], where: str) -> str:
    """The id of the subject that ``said`` means, of id -> name ("" for none): its name, its id, the hash at the id's
    end, or how one of these begins, where only one does.

    Raises UnknownNameError, naming ``where``, when none does; UsageError, with the candidates, when several do.
    """
    words = {id: [id, id.rpartition("-")[2], *([name] if name else [])] for id, name in names.items()}
    found = [id for id, own in words.items() if said in own]
    if not found and said:
        found = [id for id, own in words.items() if any(word.startswith(said) for word in own)]
    if not found:
        raise UnknownNameError(f"subject of {where}", said, [name or id for id, name in names.items()])
    if len(found) > 1:
        candidates = listed({id: names[id] for id in found})
        raise UsageError(
            f"{said!r} may be {len(found)} subjects of {where}: {candidates}; say more of the one you mean"
        )
    return found[0]


def find_subjects(said: Collection[str], names: Mapping[str, str], where: str) -> tuple[str, ...]:
    """As ``find_subject``, of several; each once, in the order they were said."""
    return tuple(dict.fromkeys(find_subject(each, names, where) for each in said))
