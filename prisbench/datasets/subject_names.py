"""What subjects are called: a name that people know, like ``mug-anna``, and the id behind it, ``mug-3f9c21a07e``.

The name is the source's own where it has one, like that of a folder; else it is the noun and a first name that the id
picks.  A name is for people: no method sees it, and neither ids nor digests depend on it.

Knows: how a subject is named to a reader, which one a reader means.  Does not know: tables, files.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping

from prisbench.errors import PrisbenchError, UnknownNameError, UsageError

MOST_CANDIDATES = 6
"""Subjects that a message lists."""

FIRST_NAMES = """
ada aiko akira alba aldo alma amir ana anna anton aria arlo asha ayla bela ben bianca bo boris bruno carla cem chidi
clara cleo cora dalia dan daria david diego dora edda eddy eli ella elmo emil emma enzo erik esra eva fadi fay felix
fiona flora franz frida gina goran greta hana hanna hassan hedi hugo ida igor ilse imani ines ingo ira iris ivan jade
jan jonas juan jun kai kara karl kemal kim klara koji lara lars lea leo lia lila lin lola lou lucy luis luna maja
malik mara marco maya mei mia milo mina moritz nadia naomi nico nina noah nora olga omar oscar otto paul pia quinn
rahel ravi rita rosa ruben samir sara selma sven tara theo timo tom uma vera wanda yara yuki zoe
""".split()  # noqa: SIM905
"""Short, of many languages; to change them, or their order, renames subjects of sets without names of their own."""


def plain_name(name: str) -> str | None:
    """A source's name for a subject as one line of text; None where nothing is left of it."""
    return " ".join(name.split()) or None


def known_names(own: Mapping[str, str]) -> dict[str, str]:
    """Id -> the name by which people know a subject, no two alike.

    ``own``: all subjects of a dataset, id -> what its source calls it, "" where it has no name for it.  Such a name
    stays, a bare number after the noun.  Others are the noun and a first name, or two where one is not enough; both
    follow from the ids alone, whatever their order.
    """
    drawn = {id: 0 if name else 1 for id, name in own.items()}
    while True:
        names = {id: "-".join([_begin(id, own[id]), *_first_names(id, n)]) for id, n in drawn.items()}
        count = Counter(names.values())
        shared = [id for id, name in names.items() if count[name] > 1]
        if not shared:
            return names
        for id in [id for id in shared if not own[id]] or shared:
            drawn[id] += 1


def _begin(id: str, name: str) -> str:
    noun = id.rpartition("-")[0] or id
    if not name:
        return noun
    return name if any(letter.isalpha() for letter in name) else f"{noun}-{name}"


def _first_names(id: str, n: int) -> list[str]:
    """The first ``n`` of the first names that an id picks, one after the other."""
    digits = hashlib.sha256(id.encode()).digest()
    more = (int.from_bytes(digits[k : k + 2], "big") for k in range(0, 2 * n, 2))
    return [FIRST_NAMES[number % len(FIRST_NAMES)] for number in more]


def title(id: str, name: str | None) -> str:
    """``mug-anna (mug-3f9c21a07e)``; the id alone where there is no other name."""
    return f"{name} ({id})" if name and name != id else id


def with_names(text: str, names: Mapping[str, str]) -> str:
    """A line for people, with the title of every subject of id -> name in the place of its id.

    An id in a title, in a path or in a longer word stays.
    """
    return _ID.sub(lambda found: title(found[0], names.get(found[0])), text)


_ID = re.compile(r"(?<![\w(/.-])[a-z0-9-]+-[0-9a-f]{10}(?![\w/.-]*[\w/-])")


@contextlib.contextmanager
def told_by_name(names: Mapping[str, str]) -> Iterator[None]:
    """Mistakes that the block raises name subjects as people know them."""
    try:
        yield
    except PrisbenchError as error:
        error.args = (with_names(str(error), names),)
        raise


def telling_names(tell: Callable[[str], None], names: Mapping[str, str]) -> Callable[[str], None]:
    """As ``tell``, with subjects named as people know them."""
    return lambda line: tell(with_names(line, names))


def listed(names: Mapping[str, str], most: int = MOST_CANDIDATES) -> str:
    """The titles of the first subjects of id -> name, and how many more there are."""
    shown = [title(id, name) for id, name in list(names.items())[:most]]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")


def find_subject(said: str, names: Mapping[str, str], where: str) -> str:
    """The id of the subject that ``said`` means, of id -> name ("" for none): its name, with or without the noun that
    it begins with, its id, the hash at the id's end, or how one of these begins, where only one does.

    Raises UnknownNameError, naming ``where``, when none does; UsageError, with the candidates, when several do.
    """
    words = {id: [id, id.rpartition("-")[2], *_words(id, name)] for id, name in names.items()}
    found = [id for id, own in words.items() if said in own]
    if not found and said:
        found = [id for id, own in words.items() if any(word.startswith(said) for word in own)]
    if not found:
        like_ids = any(letter.isdigit() for letter in said)
        known = [id if like_ids or not name else name for id, name in names.items()]
        raise UnknownNameError(f"subject of {where}", said, known)
    if len(found) > 1:
        candidates = listed({id: names[id] for id in found})
        raise UsageError(
            f"{said!r} may be {len(found)} subjects of {where}: {candidates}; say more of the one you mean"
        )
    return found[0]


def _words(id: str, name: str) -> list[str]:
    """A name, and what of it comes after the noun."""
    noun = id.rpartition("-")[0]
    own = name.removeprefix(noun).lstrip("-_: ") if noun and name.startswith(noun) else ""
    return [word for word in (name, own) if word]


def find_subjects(said: Collection[str], names: Mapping[str, str], where: str) -> tuple[str, ...]:
    """As ``find_subject``, of several; each once, in the order they were said."""
    return tuple(dict.fromkeys(find_subject(each, names, where) for each in said))
