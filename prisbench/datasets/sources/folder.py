"""Your own photos and PNG masks: a folder for each thing.

The layout is ours:

    my-things/
      mug-anna/                      a subject; its noun is the name up to the first "-" or digit: "mug"
        photos/01.jpg                reference photos: the thing as others will learn it, 3 to 6 of them
        photos_masks/01.png          optional: where it is in a reference photo
        scenes/kitchen.jpg           where to look for it
        masks/kitchen.png            where it is: white on black; all black says that it is not there
        masks/kitchen.lookalike-1.png   optional: another mug in that scene, one file each
        subject.yaml                 optional: noun, licence, source, split, mask_value, mask_frame
        queries.csv                  optional: scene,text,mask,look_alikes,query_type,landmarks,others,pair
      subjects.csv                   optional, for all: subject,noun,licence,source,split,mask_value,mask_frame

A mask has two values, or soft edges of grey (``mask_files``).  Of a file with other values, such as instance numbers,
``mask_value`` says which are the thing: "1", "1,2" or "128-255".

That is enough: there is one query about each scene, with the common text.  It is "look-alike" when the scene has
look-alikes, "absent" when its mask is all black, else "plain".  Photos that lie right in a subject's folder are its
reference photos too.

``queries.csv`` asks otherwise about the scenes it names, once a line; empty cells mean the usual.  Several look-alikes
are divided by ";".  What belongs to another subject is named from the top: "mug-ben/scenes/desk.jpg" is a scene for an
"absent" query, with the look-alike "mug-ben/masks/desk.png".  A ``subject.yaml`` comes before ``subjects.csv``.

``landmarks`` and ``others`` name further things of a scene, "box=desk.box.png; desk.lamp.png", with their class word
where it is known.  A look-alike may say how it differs: "pattern=desk.b.png" (colour, second, pattern, swap, build,
copy).  Two lines with the same ``pair`` are texts about one scene that differ in one phrase, of type "referred", or one
of them "contradicted"; the mask of that one is where the subject is.  A ``pair`` is a subject's own: "1" in another
folder is another pair.

With ``relations=true`` the masks of a scene also make queries that say where the subject stands to its landmarks and
others, and which of its copies (look-alikes of grade "copy") is meant.  A line with the common text about a scene with
copies is then no query: it does not say which it means.

A tree like DreamBooth's, photos but no scenes, is read too, so that its photos can be looked at and audited; it is no
benchmark, and ``queries`` says what is missing.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from prisbench.datasets.schema import SPLITS, QueryRow
from prisbench.datasets.source import Source, split_of
from prisbench.datasets.sources.options import (
    LICENCE_HELP,
    MASK_OPTIONS,
    RELATIONS_HELP,
    SHARE_HELP,
    TEXT_HELP,
    mask_rule,
    one_line,
    query_text,
    share,
    whole_number,
)
from prisbench.datasets.sources.picture_files import QueryFiles, SubjectFiles, masks_in, pictures_in, source_of
from prisbench.datasets.sources.plan import about
from prisbench.datasets.sources.reading.files import folders, inside, listing
from prisbench.datasets.sources.reading.values import yaml_file
from prisbench.datasets.sources.tables import Line, table
from prisbench.errors import DataError, UnknownNameError, UsageError
from prisbench.images.photos import SUFFIXES, photos_below
from prisbench.runtime.files import composed, stem_of
from prisbench.types import GRADES, QUERY_TYPES

TITLE = "Own photos and masks"
LICENCE = "unknown"
"""Where nobody says; a dataset that is to be published wants one."""
HOMEPAGE = "photos of one's own"
LAYOUT = """
mug-anna/photos/01.jpg
mug-anna/scenes/kitchen.jpg
mug-anna/masks/kitchen.png
mug-anna/masks/kitchen.lookalike-1.png
"""
OPTIONS = {
    "references": "reference photos per subject, the first by file name (default: all)",
    "validation_share": f"{SHARE_HELP}; a split that a subject states comes first",
    "relations": f"{RELATIONS_HELP}; they name the landmarks and others of queries.csv, and tell its copies apart",
    "text": TEXT_HELP,
    "licence": f"{LICENCE_HELP} of a subject that states none (default: {LICENCE})",
    **MASK_OPTIONS,
}
LIMITS = """\
- Whether a scene shows things of other nouns: its type is "plain" unless `queries.csv` says "other-category".
- Whether every look-alike has a mask, and whether what `queries.csv` names is there once (relations=true).
- Whether a scene was taken a minute after a reference photo, in the same light at the same place."""

_FACTS = ("noun", "licence", "source", "split", "mask_value", "mask_frame")
_COLUMNS = ("scene", "text", "mask", "look_alikes", "query_type", "landmarks", "others", "pair")


def read(root: Path, options: Mapping[str, str]) -> Source:
    """Raises UsageError for an option, DataError naming the file and the line for all else."""
    mask_rule(options)
    listed = _subjects_table(root)
    left_out: Counter[str] = Counter()
    subjects = []
    for home in folders(root):
        if photos := _photos(home):
            left_out.update(_strays(home))
            subjects.append(_subject_files(root, home, photos, options, listed.pop(composed(home.name), {})))
        elif (home / "photos").is_dir() or (home / "scenes").is_dir():
            raise DataError(f"{home} has no reference photos; put 3 to 6 into {home / 'photos'}")
        else:
            left_out["folders without photos"] += 1
            left_out["photos further down in folders without photos"] += sum(photos_below(home).values())
    left_out["photos beside the folders of subjects"] += len(listing(root, SUFFIXES))
    left_out += Counter()  # no zeros
    if listed:
        raise DataError(
            f"{root / 'subjects.csv'}: {_unknown('subject', next(iter(listed)), [one.name for one in subjects])}"
        )
    if not subjects:
        raise DataError(
            f"{root} has no folder with photos; make one for each thing, with {LAYOUT.split()[0]} and so on"
            f"{_deeper(root)}"
        )
    source = source_of("folder", root, subjects, options, left_out, about(TITLE, HOMEPAGE, LIMITS, options))

    first = subjects[0].name

    def no_queries(start: int) -> Iterator[QueryRow]:
        raise DataError(
            f"{root} has photos of {len(subjects)} subjects but no scenes to look for them in: put other photos into "
            f"{first}/scenes, and for each a PNG of the same name into {first}/masks, white where it is"
        )

    return source if source.n_queries != 0 else dataclasses.replace(source, queries=no_queries)


def only_known(value: Any, known: Sequence[str], where: str) -> dict[str, Any]:
    """The entries of a YAML file.  Raises DataError when it has none, or one of an unknown name."""
    if not isinstance(value, dict):
        raise DataError(f"{where} must have lines like 'noun: mug'")
    for name in value:
        if name not in known:
            raise DataError(f"{where}: {UnknownNameError('entry', str(name), known)}")
    return value


def words(value: Any, where: str) -> str:
    """One line of text from a YAML file.  Raises DataError when it is none."""
    if not isinstance(value, str) or not value.strip() or "\n" in value.strip():
        raise DataError(f"{where} is {value!r}; one line of text is wanted")
    return value.strip()


def _subjects_table(root: Path) -> dict[str, dict[str, str]]:
    """A subject's folder -> what subjects.csv says of it."""
    if not (root / "subjects.csv").exists():
        return {}
    found: dict[str, dict[str, str]] = {}
    for line in table(inside(root, "subjects.csv"), ("subject", *_FACTS), ("subject",)):
        name = composed(line.cells["subject"])
        if name in found:
            raise DataError(f"{line.where}: the subject {name} comes twice")
        found[name] = {fact: text for fact, text in line.cells.items() if fact in _FACTS and text}
    return found


def _photos(home: Path) -> tuple[Path, ...]:
    return pictures_in(home / "photos" if (home / "photos").is_dir() else home)


def _strays(home: Path) -> Counter[str]:
    """What lies in a subject's folder and has no role there, by reason."""
    found: Counter[str] = Counter()
    wanted = {"photos": SUFFIXES, "scenes": SUFFIXES, "masks": {".png"}, "photos_masks": {".png"}}
    for inner in folders(home):
        suffixes = wanted.get(inner.name)
        if suffixes is None:
            found["folders of a subject with a name that has no role"] += 1
            found["photos in folders of a subject that have no role"] += sum(
                [len(listing(inner, SUFFIXES)), *photos_below(inner).values()]
            )
            continue
        files = [path for path in listing(inner) if path.suffix.lower() not in suffixes]
        kind = "PNG" if "masks" in inner.name else "photo"
        found[f"photos in folders inside of {inner.name}"] += sum(photos_below(inner).values())
        found[f"files in {inner.name} that are no {kind}"] += len(files)
        found[f"folders in {inner.name} without photos"] += sum(
            not listing(deeper, SUFFIXES) and not photos_below(deeper) for deeper in folders(inner)
        )
    if (home / "photos").is_dir():
        found["photos that lie beside the folder photos"] += len(listing(home, SUFFIXES))
    return +found


def _subject_files(
    root: Path, home: Path, photos: tuple[Path, ...], options: Mapping[str, str], listed: Mapping[str, str]
) -> SubjectFiles:
    """What a subject's folder says."""
    facts = dict(listed)
    if (home / "subject.yaml").exists():
        path = inside(home, "subject.yaml")
        facts |= {
            name: words(str(said) if name == "mask_value" and type(said) is int else said, f"{path}: {name}")
            for name, said in only_known(yaml_file(path), _FACTS, str(path)).items()
        }
    noun = facts.get("noun") or _noun(home.name)
    if not noun:
        raise DataError(f"{home}: its name begins with no noun; write 'noun: mug' into {home / 'subject.yaml'}")
    split = facts.get("split") or split_of(home.name, share(options))
    if split not in SPLITS:
        raise DataError(f"{home}: {UnknownNameError('split', split, SPLITS)}")
    masks = masks_in(home / "photos_masks")
    for stem in sorted(masks.keys() - {stem_of(photo) for photo in photos}):
        raise DataError(
            f"{masks[stem]} belongs to no photo: {_unknown('photo', stem, [photo.stem for photo in photos])}"
        )
    photos = photos[: whole_number(options, "references", len(photos))]
    try:
        rule = mask_rule({**options, **{name: facts[name] for name in MASK_OPTIONS if name in facts}})
    except UsageError as error:
        raise DataError(f"{home}: {error}") from None
    return SubjectFiles(
        name=home.name,
        noun=noun,
        split=split,
        licence=facts.get("licence") or one_line(options, "licence", LICENCE),
        source=facts.get("source") or "own photos",
        photos=photos,
        masks=tuple(masks.get(stem_of(photo)) for photo in photos),
        queries=_queries(root, home, query_text(options)),
        rule=rule,
    )


def _noun(name: str) -> str:
    """ "mug-anna" and "mug2" are mugs, "red_cartoon" is a red cartoon."""
    end = next((n for n, letter in enumerate(name) if letter == "-" or letter.isdigit()), len(name))
    return " ".join(name[:end].replace("_", " ").split())


def _queries(root: Path, home: Path, text: str) -> tuple[QueryFiles, ...]:
    """The queries about a subject.

    Every scene must have a mask or be said to be without; every mask must have a use.
    """
    scenes = {composed(path.name): path for path in pictures_in(home / "scenes")}
    masks = masks_in(home / "masks")
    path = home / "queries.csv"
    lines = table(inside(home, path.name), _COLUMNS, ("scene",)) if path.exists() else []
    queries = [_query_by(line, root, home, scenes, masks, text) for line in lines]
    named = {one.scene for one in queries}
    rest = [scene for scene in scenes.values() if scene not in named]
    missing = [scene for scene in rest if stem_of(scene) not in masks]
    if missing:
        more = f" (nor have {len(missing) - 1} more scenes)" if len(missing) > 1 else ""
        raise DataError(
            f"{missing[0]} has no mask{more}: draw {home / 'masks' / missing[0].stem}.png, white where the subject is; "
            f"all black says that it is not there, as does query_type absent in queries.csv{_nearly(missing[0], home)}"
        )
    queries += [QueryFiles(scene, text, masks[stem_of(scene)], _look_alikes(stem_of(scene), masks)) for scene in rest]
    used = {mask for one in queries for mask in (one.mask, *one.look_alikes, *(path for _, path in one.further))}
    for mask in masks.values():
        if mask not in used:
            stems = [scene.stem for scene in scenes.values()]
            raise DataError(
                f"{mask} belongs to no scene: {_unknown('scene', mask.stem, stems)}; a mask has its scene's name, "
                "a look-alike's one like kitchen.lookalike-1.png"
            )
    return tuple(queries)


def _deeper(root: Path) -> str:
    """Where the things are a folder further down, as a download's archive has them: the end of a sentence."""
    found = [home for home in folders(root) if any(_photos(inner) for inner in folders(home))]
    return f"; {found[0]} has such folders: give that one (of an archive, unpack it first)" if found else ""


def _nearly(scene: Path, home: Path) -> str:
    """What lies among the masks and may be meant as the scene's, as the end of a sentence."""
    stem = stem_of(scene)
    there = listing(home / "masks") if (home / "masks").is_dir() else []
    names = {path: composed(path.name) for path in there}
    found = [path for path in there if names[path].startswith(stem) and ".lookalike" not in names[path]]
    if not found:
        return ""
    why = "a mask has its scene's name" if found[0].suffix.lower() == ".png" else "masks are PNG files"
    return f"; {found[0].name} lies there, but {why}"


def _query_by(
    line: Line, root: Path, home: Path, scenes: Mapping[str, Path], masks: Mapping[str, Path], text: str
) -> QueryFiles:
    """A line of queries.csv."""
    cells = {name: line.cells.get(name, "") for name in _COLUMNS}
    kind, own = cells["query_type"], "/" not in cells["scene"]
    scene = scenes.get(composed(cells["scene"])) if own else inside(root, cells["scene"], line.where)
    if scene is None or scene.suffix.lower() not in SUFFIXES:
        raise DataError(f"{line.where}: {_unknown('scene', cells['scene'], scenes)}")
    if kind and kind not in QUERY_TYPES:
        raise DataError(f"{line.where}: {UnknownNameError('query type', kind, QUERY_TYPES)}")

    def named(name: str) -> Path:
        return inside(root if "/" in name else home / "masks", name, line.where)

    usual = masks.get(stem_of(scene)) if own else None
    mask = named(cells["mask"]) if cells["mask"] else usual
    if mask is None and kind != "absent":  # a contradicted query has the subject's own: it is there
        raise DataError(
            f"{line.where}: {scene} has no mask; draw {home / 'masks' / scene.stem}.png, or say that the query_type "
            "is absent"
        )
    graded, landmarks, others = (
        tuple((word, named(name)) for word, name in _listed(cells[column]))
        for column in ("look_alikes", "landmarks", "others")
    )
    for grade, path in graded:
        if grade and grade not in GRADES:
            raise DataError(f"{line.where}: {path.name}: {UnknownNameError('grade', grade, GRADES)}")
    alike, grades = tuple(path for _, path in graded), tuple(grade for grade, _ in graded)
    if not alike and own:
        alike = _look_alikes(stem_of(scene), masks)
        grades = ("",) * len(alike)
    try:
        text = query_text({"text": cells["text"] or text})
    except UsageError as error:
        raise DataError(f"{line.where}: {error}") from None
    return QueryFiles(scene, text, mask, alike, kind, grades, landmarks, others, cells["pair"])


def _listed(cell: str) -> list[tuple[str, str]]:
    """``box=desk.box.png; desk.lamp.png`` as words and names; a word may be missing."""
    parts = [part.rpartition("=") for part in cell.split(";") if part.strip()]
    return [(word.strip(), name.strip()) for word, _, name in parts]


def _look_alikes(stem: str, masks: Mapping[str, Path]) -> tuple[Path, ...]:
    return tuple(path for name, path in masks.items() if name.startswith(f"{stem}.lookalike"))


def _unknown(kind: str, name: str, known: Collection[str]) -> str:
    """As ``UnknownNameError``, without the list where it would be long."""
    error = UnknownNameError(kind, name, known)
    near = f": did you mean {error.near!r}?" if error.near else ""
    return str(error) if len(known) <= 12 else f"unknown {kind} {name!r}{near}"
