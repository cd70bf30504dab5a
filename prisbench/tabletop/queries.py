"""What is asked about a subject: its groups of queries, a scene each; the two texts of a pair share one.

A group is a ``Recipe`` filled with things and texts by one of the functions below, then drawn until every text holds.

Knows: types, grades, guards, pairs.  Does not know: pixels, rows and files.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from prisbench.tabletop import texts
from prisbench.tabletop.camera import Camera
from prisbench.tabletop.individuals import (
    GRADES,
    both,
    bystander,
    colour_twin,
    grade_between,
    look_alike,
    look_alikes,
    marked,
    pick,
)
from prisbench.tabletop.looks import Individual
from prisbench.tabletop.places import POSITIONS, Condition, judge, stands_there
from prisbench.tabletop.render import Placed
from prisbench.tabletop.scenes import Crowded, Plan, Scene, compose
from prisbench.tabletop.subjects import SEED, TabletopSubject

VERSION = "3"
"""Of the benchmark, the queries: raised whenever ``named.DIGESTS`` changes."""

SCALES = {1: (22.0, 48.0), 2: (22.0, 43.0), 3: (21.5, 39.0), 4: (21.0, 37.0), 5: (21.0, 35.0)}
"""Things in a scene -> range of pixels a unit of the table covers."""

GROUPS: Mapping[str, int] = {
    "plain": 3,
    "other-category": 4,
    **{f"look-alike:{grade}": 2 for grade in GRADES},
    "look-alike:mixed": 2,
    "relation": 4,
    "referred": 4,
    "absent": 5,
}
"""Scenes a subject, by kind: 32, asked 40 times.  A "relation" scene has a true text and a contradicted one, a
"referred" scene two true ones."""
TRIALS = 40
"""How often the things of a scene are drawn anew when they do not fit on the table as the texts want it."""
_PRESENT = tuple(
    (kind, n) for kind, count in GROUPS.items() if kind not in ("absent", "referred", "relation") for n in range(count)
)
"""The ways in which a subject is asked for where it stands once, by texts that say nothing of a place."""


@dataclass(frozen=True)
class Asked:
    """One text about a scene: its type, the thing it means (None for nothing), and the one it names, if any."""

    query_type: str
    text: str
    meant: int | None
    landmarks: tuple[int, ...] = ()


@dataclass(frozen=True, eq=False)
class Group:
    """A scene and what is asked about it.  ``roles``: what each thing is to the subject, "subject", "copy", a grade, or
    "other"; ``subset``: the kind of ``GROUPS``; ``guarded``: whether counting or places alone would mislead.
    """

    subject: TabletopSubject
    subset: str
    index: int
    scene: Scene
    roles: tuple[str, ...]
    asked: tuple[Asked, ...]
    guarded: bool = False


@dataclass
class _Line:
    """A text to come: ``conditions`` (landmarks as places in the cast) that the ``meant`` copy fulfils and no other."""

    query_type: str
    conditions: tuple[Condition, ...] = ()
    text: str = ""


@dataclass
class _Recipe:
    """Who is to stand in a scene, the subject and its copies first, and what is to hold."""

    cast: list[Individual]
    roles: list[str]
    lines: list[_Line]
    guards: list[tuple[int, int]] = field(default_factory=list)
    """(thing, line): the thing must stand where the line's text points."""


def plan(counts: Mapping[str, int] | None = None) -> list[tuple[str, int]]:
    """(kind, index) of a subject's groups, in order."""
    return [(kind, index) for kind, count in (counts or GROUPS).items() for index in range(count)]


def queries_of(kind: str) -> int:
    """How many queries a group of a kind holds."""
    return 2 if kind in ("relation", "referred") else 1


def group(subject: TabletopSubject, kind: str, index: int, seed: int = SEED) -> Group:
    """Group ``index`` of one kind about one subject.

    What stands beside the subject is as new to training as the subject is, and all are placed at random, so that
    nothing but its looks, and what the text says, sets the subject apart.
    """
    for trial in range(TRIALS):
        rng = random.Random(f"tabletop/{VERSION}/{seed}/{subject.key}/{kind}/{index}/{trial}")
        try:
            if kind == "absent":
                recipe = _absent(rng, subject, index, trial)
            else:
                recipe = _recipe(rng, subject.who, subject.number, kind, index)
            return _drawn(rng, subject, (kind, index), recipe)
        except (Crowded, LookupError):
            continue
    raise AssertionError(f"{subject.key}: no scene found for {kind} {index}")


def _recipe(rng: random.Random, who: Individual, number: int, kind: str, index: int) -> _Recipe:
    """A scene about ``who``, who is the first of the cast; ``number`` is the subject's, by which kinds take turns.

    In what things share, none stands in the middle: look-alikes of a grade all differ from each other in its respect,
    a mixed scene is closed under its two changes, and a colour twin is that of any member of the cast.
    """
    if kind == "relation":
        return _relation(rng, who, number, index)
    if kind == "referred":
        return _referred(rng, who, number, index)
    cast, roles = [who], ["subject"]
    if kind == "other-category":
        cast += _company(rng, who, 1 + index % 3)
        roles += ["other"] * (len(cast) - 1)
    elif kind.startswith("look-alike:"):
        grade = kind.partition(":")[2]
        if grade == "mixed":
            first, second = pick(rng, _PAIRS)
            one, two = look_alike(rng, who, first), look_alike(rng, who, second)
            cast += [one, two, both(who, one, two)]
        else:
            cast += look_alikes(rng, who, grade, 1 + index % 2)
        if len(cast) < 4 and rng.random() < 0.6:
            cast.append(_twin(rng, pick(rng, cast)) if rng.random() < 0.5 else bystander(rng, who))
        roles += [_role(who, one) for one in cast[1:]]
    return _Recipe(cast, roles, [_Line(kind.partition(":")[0])])


_PAIRS = (
    *(("colour", "pattern"), ("colour", "build"), ("second", "pattern"), ("second", "build"), ("swap", "pattern")),
    *(("swap", "build"), ("pattern", "build")),
)
"""Grades whose changes do not touch each other."""


def _role(who: Individual, other: Individual) -> str:
    return grade_between(who, other) if other.noun == who.noun else "other"


def _twin(rng: random.Random, who: Individual, *nouns: str) -> Individual:
    """A colour twin with a mark as often as any thing has one."""
    return marked(rng, colour_twin(rng, who, *nouns))


def _company(rng: random.Random, who: Individual, n: int) -> list[Individual]:
    """So many things of other nouns.  Two of the cast are colour twins of each other, whichever two; of a cast of two,
    every second time.
    """
    pair = sorted(range(n + 1), key=lambda _: rng.random())[:2]
    cast = [who]
    for place in range(1, n + 1):
        nouns = [one.noun for one in cast]
        if place == max(pair) and (n > 1 or rng.random() < 0.5):
            cast.append(_twin(rng, cast[min(pair)], *nouns))
        else:
            cast.append(bystander(rng, who, *nouns))
    return cast[1:]


def _absent(rng: random.Random, subject: TabletopSubject, index: int, trial: int) -> _Recipe:
    """Made as one of the others is (``_PRESENT``, in turn), around another thing in the subject's place: a look-alike
    in the scene of a look-alike query and every second time in the others, else a thing of another noun.  The subject
    itself is not in it.
    """
    who = subject.who
    kind, variant = _PRESENT[(7 * (GROUPS["absent"] * subject.number + index) + 5 * trial) % len(_PRESENT)]
    alike = kind.startswith("look-alike:") or index % 2 == 1
    front = look_alike(rng, who, pick(rng, GRADES)) if alike else bystander(rng, who)
    recipe = _recipe(rng, front, subject.number, kind, variant)
    recipe.roles = [_role(who, one) for one in recipe.cast]
    if "copy" in recipe.roles:
        raise LookupError("the subject stands in its absent scene")
    recipe.lines[0].query_type = "absent"
    return recipe


_OPPOSITE = {"left of": "right of", "right of": "left of", "in front of": "behind", "behind": "in front of"}


def _relation(rng: random.Random, who: Individual, number: int, index: int) -> _Recipe:
    """One subject, one landmark: a true text, and one that is contradicted by the opposite relation or by a landmark
    that is not there (every fourth); half of the times a look-alike stands in the asked place.
    """
    landmark = bystander(rng, who)
    word = tuple(_OPPOSITE)[(index + number) % 4]
    cast, roles = [who, landmark], ["subject", "other"]
    recipe = _Recipe(cast, roles, [_Line("relation", (Condition(word, 1),))])
    missing = index % 4 == 2
    if missing:
        recipe.lines.append(_Line("contradicted", (Condition(word, None),)))
    else:
        recipe.lines.append(_Line("contradicted", (Condition(_OPPOSITE[word], 1),)))
    if index % 2 == 0:
        grade = pick(rng, GRADES)
        cast.append(look_alike(rng, who, grade))
        roles.append(grade)
        recipe.guards.append((2, 0 if missing else 1))
    else:
        cast.append(bystander(rng, who, landmark.noun))
        roles.append("other")
    return recipe


def _referred(rng: random.Random, who: Individual, number: int, index: int) -> _Recipe:
    """Copies of the subject, and two texts that mean different ones.

    0 and 1: a relation to a landmark; 2: a position; 3: a position guarded, or two conditions.  1 and 3 are guarded:
    a look-alike of grade "pattern" or "build" stands where each text points as well, or the landmark is named by its
    noun beside another thing of its colour.
    """
    guarded = index % 2 == 1
    if index < 2 or (index == 3 and number % 2):
        landmark = bystander(rng, who)
        words = ("left of", "right of") if (number + index) % 2 else ("in front of", "behind")
        copies = 2
        if index == 3:
            copies, words = 3, ("left of", "right of")
        cast, roles = [who] * copies, ["copy"] * copies
        cast.append(landmark)
        roles.append("other")
        lines = [_Line("referred", (Condition(word, copies),)) for word in words]
        if index == 3:  # two conditions: the side of one thing, before or behind another
            second = pick(rng, ("in front of", "behind"))
            cast.append(bystander(rng, who, landmark.noun))
            roles.append("other")
            for line in lines:
                line.conditions = (*line.conditions, Condition(second, copies + 1))
        recipe = _Recipe(cast, roles, lines)
        if index == 1 and number % 4 < 2:
            cast.append(_twin(rng, landmark, who.noun))
            roles.append("other")
            return recipe
    else:
        three = number % 3 == 0
        pairs = (("leftmost", "rightmost"), ("nearest", "farthest"))
        words = ("middle", "leftmost") if three and not guarded else pick(rng, pairs)
        copies = 3 if three else 2
        cast, roles = [who] * copies, ["copy"] * copies
        recipe = _Recipe(cast, roles, [_Line("referred", (Condition(word),)) for word in words])
    if guarded and len(cast) < 5:
        grade = ("pattern", "build")[(number // 2 + index) % 2]
        other = look_alike(rng, who, grade)
        for n in range(2):  # as many as the copies mostly are
            cast.append(other)
            roles.append(grade)
            recipe.guards.append((len(cast) - 1, n))
    return recipe


# ---------------------------------------------------------------------------------------------------------------------
# drawing


def _drawn(rng: random.Random, subject: TabletopSubject, name: tuple[str, int], recipe: _Recipe) -> Group:
    """The group of a recipe: its scene drawn, its texts written."""
    kind, index = name
    cast = [_single(one) for one in recipe.cast]  # copies become things of their own
    while not _write(rng, subject.split, recipe, kind, index):
        pass
    tone = pick(rng, cast)
    colours = (tone.main, tone.second)
    scale = SCALES[min(len(cast), max(SCALES))]
    wanted = Plan(scale, lambda camera, placed: _meant(camera, placed, recipe) is not None, colours, 0.5)
    scene = compose(rng, cast, wanted)
    order = {id(one): n for n, one in enumerate(cast)}
    back = [order[id(thing.individual)] for thing in scene.things]  # place in the cast of each thing of the scene
    places = [back.index(n) for n in range(len(cast))]
    meant = _meant(scene.stage.camera, [scene.things[n] for n in places], recipe)
    assert meant is not None
    asked = []
    for line, one in zip(recipe.lines, meant, strict=True):
        text = line.text if line.conditions else texts.whole_text(subject.split, scene.stage.surface, rng)
        marks = tuple(places[c.landmark] for c in line.conditions if c.landmark is not None)
        nothing = line.query_type in ("absent", "contradicted")
        asked.append(Asked(line.query_type, text, None if nothing else places[one], marks))
    roles = tuple(recipe.roles[n] for n in back)
    guarded = bool(recipe.guards) or (kind == "referred" and index == 1)
    return Group(subject, kind, index, scene, roles, tuple(asked), guarded)


def _single(who: Individual) -> Individual:
    return replace(who)


def _meant(camera: Camera, placed: Sequence[Placed], recipe: _Recipe) -> list[int] | None:
    """Which thing of the cast each line means (the first one where it means nothing); None when a text does not hold
    as it should: true of exactly one copy with its margin, clearly false of all others, guards in their places, a
    contradicted text clearly false.
    """
    copies = [n for n, role in enumerate(recipe.roles) if role == "copy"] or [0]
    out = []
    for number, line in enumerate(recipe.lines):
        if not line.conditions or _landmark_missing(line):
            out.append(0)
            continue
        truth = {n: _all(camera, line, n, placed, copies) for n in copies}
        right = [n for n in copies if truth[n]]
        if line.query_type == "contradicted":
            if any(truth[n] is not False for n in copies):
                return None
            out.append(0)
        elif len(right) != 1 or any(truth[n] is None for n in copies):
            return None
        else:
            out.append(right[0])
        guards = [n for n, at in recipe.guards if at == number]
        if not all(stands_there(camera, c, n, placed, copies) for n in guards for c in line.conditions):
            return None
    if len(recipe.lines) == 2 and recipe.lines[0].query_type == "referred" and out[0] == out[1]:
        return None
    return out


def _landmark_missing(line: _Line) -> bool:
    return line.query_type == "contradicted" and line.conditions[0].landmark is None


def _all(camera: Camera, line: _Line, n: int, placed: Sequence[Placed], copies: Sequence[int]) -> bool | None:
    """Whether thing ``n`` fulfils every condition of a line; None where that is not clear."""
    found = [judge(camera, condition, n, placed, copies) for condition in line.conditions]
    return False if False in found else None if None in found else True


def _write(rng: random.Random, split: str, recipe: _Recipe, kind: str, index: int) -> bool:
    """Write the texts that name places; False where no phrase for a landmark fits it alone."""
    cast = recipe.cast
    subject = cast[0]
    by_noun = kind == "referred" and index == 1 and not recipe.guards
    phrases: dict[int, str] = {}
    for line in recipe.lines:
        for condition in line.conditions:
            if condition.landmark is not None and condition.landmark not in phrases:
                phrase = texts.landmark_phrase(cast[condition.landmark], cast, rng, by_noun)
                if phrase is None:
                    return False
                phrases[condition.landmark] = phrase
    forms, variant = rng.random(), int(rng.random() * 2)
    for line in recipe.lines:
        if not line.conditions:
            continue
        if line.conditions[0].word in POSITIONS:
            line.text = texts.positioned(split, line.conditions[0].word, variant)
            continue
        words = [(c.word, _named(rng, c, phrases, cast, subject)) for c in line.conditions]
        line.text = texts.related(split, words, random.Random(forms))
    return True


def _named(
    rng: random.Random,
    condition: Condition,
    phrases: Mapping[int, str],
    cast: Sequence[Individual],
    subject: Individual,
) -> str:
    """The phrase for a landmark; for one that is missing, a phrase that fits nothing in the scene."""
    if condition.landmark is not None:
        return phrases[condition.landmark]
    while True:
        other = bystander(rng, subject)
        phrase = f"{other.main} {other.noun}"
        if not any(one.noun == other.noun for one in cast):
            return phrase
