"""``croissant.json``: a dataset described for machines, in Croissant 1.1 with the responsible-AI fields.

Files with their checksums, the two tables column by column, and what the card's prose says of limits, biases, people
and uses.  What the card does not say is left out, never made up.

Knows: the vocabulary (http://mlcommons.org/croissant/1.1 and http://mlcommons.org/croissant/RAI/1.0), the tables.
Does not know: how cards are checked, the Hub.  Nothing here needs mlcroissant; the tests validate with it.

``rai:hasSyntheticData`` and the two ``prov:`` fields are not in the RAI 1.0 vocabulary; NeurIPS 2026 asks for them
(https://neurips.cc/Conferences/2026/EvaluationsDatasetsHosting), and other readers pass over them.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from prisbench.datasets.cards.front_matter import SPDX_LICENCES
from prisbench.datasets.cards.text import Card, parse_card
from prisbench.datasets.load import Dataset, open_dataset
from prisbench.datasets.schema import SPLITS, TABLES
from prisbench.datasets.things import WORDS
from prisbench.errors import DataError
from prisbench.runtime.files import read_bytes, write_json

FILE = "croissant.json"

COLUMNS = {
    "subjects": {
        "id": "noun and 10 hexadecimal digits of the hash of noun and photos",
        "name": "what the set itself calls the subject, null where it has no name for it",
        "noun": "the class word",
        "photos": "the reference photos, at least one; none of them is a scene",
        "masks": "for each photo the visible part of the subject, COCO run lengths, or null; or none at all",
        "split": "validation or test",
        "licence": "of the photos",
        "source": "where the photos come from",
    },
    "queries": {
        "id": "16 hexadecimal digits of the hash of subject, scene and text",
        "subject_id": "a subject of the same split",
        "noun": "the subject's class word",
        "image_id": "the first 16 digits of sha256; queries about one scene share it",
        "image": "the scene",
        "height": "of the scene, pixels",
        "width": "of the scene, pixels",
        "text": "what is asked, with {subject} once where a method puts its own words",
        "query_type": "plain, other-category, look-alike, relation, referred, absent or contradicted",
        "mask": "the visible part of what the text means, COCO run lengths; empty when it means nothing in the scene",
        "look_alikes": "the visible parts of every other thing with the same noun, COCO run lengths",
        "things": "all things of the scene that are known: COCO run lengths, noun, role and grade",
        "meant": "the place among the things of the one that the text means, from 0; null when it means none",
        "pair_id": "what a query shares with the one whose text differs in one phrase; null without one",
        "area_fraction": "the mask's share of the scene, 0 to 1",
        "split": "validation or test",
        "licence": "of the scene and its mask",
        "source": "where the scene comes from",
        "sha256": "of the scene's size and pixels",
        "perceptual_hash": "16 hexadecimal digits of the look of the scene",
    },
}
"""Table -> column -> what it means; in more words in ``docs/dataset.md``."""

RAI = {
    "rai:dataCollection": ("How it was made",),
    "rai:dataUseCases": ("Why it exists", "How to use it"),
    "rai:dataLimitations": ("What it is not for",),
    "rai:dataBiases": ("Known shortcuts and biases",),
    "rai:personalSensitiveInformation": ("People in it",),
    "rai:dataSocialImpact": ("Who could be harmed",),
}
"""Field -> the headings of the card that say it."""

_REFERENCES = {"queries/subject_id": "subjects/id", "queries/split": "splits/name", "subjects/split": "splits/name"}
_WORDS = {
    "noun": "the thing's class word, null where nobody named it",
    "role": "subject, look-alike, landmark or other",
    "grade": "how a look-alike differs from the subject, null where that is not known",
}

_SPDX = "https://spdx.org/licenses/{}.html"
_SPLIT_MEANS = {"validation": "cr:ValidationSplit", "test": "cr:TestSplit"}

_CONTEXT = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
"""Of appendix 1 of the specification, and the two other vocabularies used here."""


def croissant(dataset: Dataset, card_text: str | None = None, url: str | None = None) -> dict[str, Any]:
    """The description of a built dataset, as JSON-LD; the same dataset and card always give the same.

    ``card_text``: the card; default is the folder's README.md.  ``url``: the dataset's web page; default is the card's.
    Paths are relative to the folder.

    Raises DataError when the card cannot be read.
    """
    where = dataset.folder / "README.md"
    if card_text is None:
        card_text = read_bytes(where).decode("utf-8", errors="replace")
    card = parse_card(card_text, str(where))
    said = card.front.get("croissant")
    about: Mapping[str, Any] = said if isinstance(said, dict) else {}
    return _known(
        {
            "@context": _CONTEXT,
            "@type": "sc:Dataset",
            "conformsTo": ["http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0"],
            "name": dataset.id,
            "alternateName": card.front.get("pretty_name"),
            "description": card.about or f"{dataset.id}, a personalised referring segmentation dataset.",
            "version": ".".join([*dataset.version.split("."), "0", "0"][:3]),
            "license": _licences(dataset),
            "url": url or about.get("url"),
            "creator": [{"@type": "sc:Organization", "name": name} for name in _listed(about.get("creator"))],
            "datePublished": str(about["published"]) if about.get("published") else None,
            "citeAs": about.get("cite_as"),
            "inLanguage": _listed(card.front.get("language")),
            "keywords": _listed(card.front.get("tags")),
            "isLiveDataset": False,
            "distribution": _files(dataset),
            "recordSet": [_splits(dataset), *(_table(table) for table in TABLES)],
            **_rai(card),
            "prov:wasDerivedFrom": [{"@id": address} for address in _listed(about.get("derived_from"))],
            "prov:wasGeneratedBy": {
                "@type": "prov:Activity",
                "prov:label": "prisbench build-dataset",
                "description": f"Content digest {dataset.digest}"
                + ("" if dataset.manifest.seed is None else f", seed {dataset.manifest.seed}"),
            },
        }
    )


def write_croissant(folder: str | os.PathLike[str], url: str | None = None) -> Path:
    """Write ``croissant.json`` into a built dataset, from its README.md; its path.  Raises DataError and WriteError."""
    dataset = open_dataset(folder)
    return write_json(dataset.folder / FILE, croissant(dataset, url=url))


def _files(dataset: Dataset) -> list[dict[str, Any]]:
    """Each Parquet file with its checksum, and for each table the set of its files."""
    files: list[dict[str, Any]] = []
    for path, sha256 in sorted(dataset.manifest.files.items()):
        try:
            size = (dataset.folder / path).stat().st_size
        except OSError as error:
            raise DataError(f"{dataset.folder / path} cannot be read ({error.strerror or error})") from None
        files.append(
            {
                "@type": "cr:FileObject",
                "@id": path,
                "name": path,
                "contentUrl": path,
                "contentSize": f"{size} B",
                "encodingFormat": "application/x-parquet",
                "sha256": sha256,
            }
        )
    for table in TABLES:
        files.append(
            {
                "@type": "cr:FileSet",
                "@id": f"{table}-files",
                "name": f"{table}-files",
                "description": f"The Parquet files of the table {table}, named by split.",
                "encodingFormat": "application/x-parquet",
                "includes": f"{table}/*.parquet",
            }
        )
    return files


def _splits(dataset: Dataset) -> dict[str, Any]:
    """The splits, as the specification's section on splits wants them."""
    fields = {"name": ("sc:Text", "as in the tables"), "url": ("sc:URL", "what it means")}
    return {
        "@type": "cr:RecordSet",
        "@id": "splits",
        "name": "splits",
        "description": "Settings are chosen on validation; only results on test are reported.",
        "dataType": "cr:Split",
        "key": {"@id": "splits/name"},
        "field": [
            {"@type": "cr:Field", "@id": f"splits/{name}", "name": name, "description": means, "dataType": kind}
            for name, (kind, means) in fields.items()
        ],
        "data": [
            {"splits/name": split, "splits/url": _SPLIT_MEANS[split]} for split in SPLITS if split in dataset.splits
        ],
    }


def _table(table: str) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        "@id": table,
        "name": table,
        "description": {
            "subjects": "Who is asked about: one row for each subject, with its reference photos.",
            "queries": "What is asked: one row for each text about a subject in a scene, with the scene and the truth.",
        }[table],
        "key": {"@id": f"{table}/id"},
        "field": [_field(table, field) for field in TABLES[table]],
    }


def _field(table: str, column: pa.Field) -> dict[str, Any]:
    """A column as a field: an image, plain values, or run lengths with two subfields; lists as arrays."""
    name = f"{table}/{column.name}"
    kind: pa.DataType = column.type
    is_list = pa.types.is_list(kind)
    element = kind.value_type if is_list else kind
    out: dict[str, Any] = {
        "@type": "cr:Field",
        "@id": name,
        "name": column.name,
        "description": COLUMNS[table][column.name],
    }
    if is_list:
        out |= {"isArray": True, "arrayShape": "-1"}
    if pa.types.is_struct(element) and "counts" in {part.name for part in element}:
        out["subField"] = [
            _part(table, column.name, "size", "height and width, pixels", "sc:Integer", is_list),
            _part(table, column.name, "counts", "COCO's compressed runs", "sc:Text", is_list),
        ]
        further = [part.name for part in element if part.name in WORDS]
        out["subField"] += [_part(table, column.name, part, _WORDS[part], "sc:Text", is_list) for part in further]
        return out
    image = pa.types.is_struct(element)
    out |= {"dataType": "sc:ImageObject" if image else _atomic(element), "source": _source(table, column.name)}
    if image:
        out["source"]["transform"] = {"jsonPath": "bytes"}
    if image and is_list:  # mlcroissant 1.1.1 reads an array of images only when told so in the words of Croissant 1.0
        out["repeated"] = True
    if name in _REFERENCES:
        out["references"] = {"field": {"@id": _REFERENCES[name]}}
    return out


def _part(table: str, column: str, part: str, means: str, kind: str, is_list: bool) -> dict[str, Any]:
    """A subfield of run lengths; of a list of them, the subfield is the list of the parts."""
    array = {"isArray": True, "arrayShape": "-1,2" if is_list else "2"} if part == "size" else {}
    array = array or ({"isArray": True, "arrayShape": "-1"} if is_list else {})
    return {
        "@type": "cr:Field",
        "@id": f"{table}/{column}/{part}",
        "name": part,
        "description": means,
        "dataType": kind,
        **array,
        "source": {**_source(table, column), "transform": {"jsonPath": part}},
    }


def _source(table: str, column: str) -> dict[str, Any]:
    return {"fileSet": {"@id": f"{table}-files"}, "extract": {"column": column}}


def _atomic(kind: pa.DataType) -> str:
    if pa.types.is_integer(kind):
        return "sc:Integer"
    return "sc:Float" if pa.types.is_floating(kind) else "sc:Text"


def _rai(card: Card) -> dict[str, Any]:
    """What the card's prose says, field by field; and whether the data are made up."""
    sections = card.sections
    out: dict[str, Any] = {}
    for field, headings in RAI.items():
        text = "\n\n".join(_plain(sections[heading]) for heading in headings if sections.get(heading))
        out[field] = text or None
    if card.front:
        out["rai:hasSyntheticData"] = "synthetic" in _listed(card.front.get("tags"))
    return out


def _plain(markdown: str) -> str:
    """Prose without line breaks inside its paragraphs."""
    return "\n\n".join(" ".join(part.split()) for part in re.split(r"\n\s*\n", markdown) if part.strip())


def _licences(dataset: Dataset) -> list[str]:
    """Addresses of the licences that rows carry, or their words where SPDX has no name for them."""
    texts = {
        row["licence"]
        for table in TABLES
        for split in dataset.splits
        for _, row in dataset.records(table, split, ["licence"])
    }
    return [_SPDX.format(text) if text.lower() in SPDX_LICENCES else text for text in sorted(texts)]


def _listed(value: Any) -> list[str]:
    """One text or several, as a list."""
    if value is None:
        return []
    return [str(one) for one in value] if isinstance(value, list) else [str(value)]


def _known(value: dict[str, Any]) -> dict[str, Any]:
    """Without what nobody said."""
    return {key: one for key, one in value.items() if one not in (None, [], "")}
