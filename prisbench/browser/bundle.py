"""Scripts, styles and data -> one HTML file that opens from disk and fetches no code.

The scripts in ``web`` are ES modules.  A page opened from disk cannot load modules by address, so their text stands in
the page, one after the other, each in a function.  The page's policy names the digest of that
text; nothing else may run, and nothing may be fetched but pictures beside the page.

Knows: which files make a page, and the policy.  Does not know: what is in the data.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

WEB = Path(__file__).parent / "web"

_IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([^"]+)";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=(?:async )?(?:function|const|class) )", re.MULTILINE)


def page(title: str, scripts: Sequence[str], styles: Sequence[str], data: Mapping[str, Any]) -> str:
    """The whole file.  ``scripts`` stand in the order in which they need each other, the last one runs the page.

    ``data``: id of an element -> its content, a text as it is (base64), anything else as JSON.
    """
    script, style = bundled(scripts), "".join((WEB / name).read_text(encoding="utf-8") for name in styles)
    blocks = {name: value if isinstance(value, str) else as_json(value) for name, value in data.items()}
    return _environment().get_template("page.html.j2").render(title=title, script=script, style=style, blocks=blocks)


def bundled(scripts: Sequence[str]) -> str:
    """Some files of ``web`` as one script: a function for each, which is given what the file imports and returns what
    it exports; no name is left behind.
    """
    parts = []
    for name in scripts:
        text = (WEB / name).read_text(encoding="utf-8")
        exported = [found[1] for found in re.finditer(r"^export (?:async )?(?:function|const|class) (\w+)", text, re.M)]
        body = _EXPORT.sub("", _IMPORT.sub(_given, text))
        parts.append(f'modules["{name}"] = (() => {{\n{body}return {{ {", ".join(exported)} }};\n}})();\n')
    return '(() => {\n"use strict";\nconst modules = {};\n' + "\n".join(parts) + "})();\n"


def _given(found: re.Match[str]) -> str:
    names = re.sub(r"(\w+) as (\w+)", r"\1: \2", " ".join(found[1].split()))
    return f'const {{ {names} }} = modules["{found[2]}"];'


def as_json(value: Any) -> str:
    """JSON in one line that may stand inside of an element: no text in it can end the element or begin a comment."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(WEB),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["policy_hash"] = policy_hash
    return environment


def policy_hash(text: str) -> str:
    """How a Content-Security-Policy names a piece of the page itself."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode('ascii')}'"
