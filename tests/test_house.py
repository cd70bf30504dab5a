"""What holds the shape of the repository.  Each rule has a twin that shows it can fail."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import prisbench

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "prisbench"

ORDER = """
errors runtime images types phrases deaf subsets answers counts metrics aliases statistics headline presence pairs
soft_maps own_task provenance predictions results settings tabletop datasets out_of_domain diffusion pretrained
small_networks things own_world speed concepts localizer network_free reid appearance matching sam clipseg detection
segmenters relations methods learning sharding split_subjects runs stored answering predict trial score foreign
test_log evaluate tuning cluster leaderboard uncertainty exports browser figures sweep embedded wsss bench ceilings plan
reproduce conformance demo doctor cli __main__
""".split()  # fmt: skip  # noqa: SIM905
"""Import order is reading order: a module imports only from those before it (and from its own room)."""

ROOMS = {
    "runtime": """console devices hub files strict_json limits locks workers resume checkpoints processes seeds
        source_code reads identity method_files""",
    "images": "arrays perceptual photos seen masks regions outlines drawing",
    "tabletop": """numbers looks patterns solids things camera surfaces sensor paint render individuals scenes places
        captions subjects texts queries ahead families audit.rows audit.views audit.which audit.there audit.where
        audit.report audit.unseen""",
    "datasets": """subject_names things schema manifest seen_rows remarks source build_notes cards.front_matter
        shards journal spread build records load
        sources.reading.files sources.reading.values
        sources.reading.images sources.reading.regions sources.mask_levels sources.mask_files sources.frames
        sources.archives
        sources.options sources.tables sources.identities sources.reference_photos sources.plan sources.places
        sources.relations sources.picture_files sources.annotated_pictures sources.instances sources.tabletop
        sources.folder
        sources.coco_records sources.coco sources.coco_panoptic sources.break_a_scene sources.perseg sources.labelme
        sources.public.davis_clips sources.public.davis
        sources.public.mug19 sources.public.burst sources.public.permis sources.public.perv_ytvos_lists
        sources.public.perv_ytvos sources.public.pods_lists sources.public.pods sources.public.voc_instances
        sources.public.ycb_video_frames sources.public.ycb_video named samples
        checks.registration checks.hash_index checks.keypoints checks.crops checks.gallery checks.candidates
        checks.copies checks.embedding checks.leaks checks.findings checks.stored checks.rows checks.folder
        checks.pictures checks.validate several_masks photo_folder
        cards.facts cards.text cards.structure cards.check cards.croissant cards.publish show.picture show.choose
        show.sheet show.page""",
    "diffusion": """architectures families configuration prompts transformer attention joint backbone images text noise
        features encodings domain pipelines planned loading""",
    "speed": "rounding lean eager",
    "concepts": """recipes watch latents loss parameters loop cost checkpoints training class_images store controls
        wordings textual_inversion custom_diffusion weights dreambooth names interop.formats
        interop.parameter_names interop.reading interop.vectors interop.weights interop.export interop.imports
        learners""",
    "localizer": """refine background settings presets presence attend texts evidence observe maps places answer method
        sheet""",
    "network_free": """colours keypoints texture patches foreground model evidence regions colour_words reader
        likeness weights predictors method fitting audit needed""",
    "appearance": "known agreement sight choice method fitting own_photos",
    "matching": "dense cosegmentation memory method unet dinov3",
    "sam": "frame guided model peaks persam matching",
    "things": "network regions",
    "reid": "crops network",
    "clipseg": "prompts model method",
    "detection": "boxes method grounding_dino owlv2",
    "segmenters": "answers canvas seggpt sam3 sam3_noun sam3_canvas",
    "trial": "records scenes calls checks child run table",
    "cluster": "merge schedule job local rayed share",
    "leaderboard": """ceilings intervals reported strength rows render fitted by_subset summaries tunings pages publish
        rescore submission compare flips""",
    "uncertainty": "answers draws spread shares ranking report",
    "exports": "numbers hub every_eval_ever latex coco",
    "browser": "bundle packing answers board cases browse write",
    "figures": "style charts grid chosen write",
    "tuning": "space file tune",
    "embedded": """recipe files rivals.phrases scenes words stage halves models autoencoder denoiser dit rectified_flow
        training planned card rivals.recipes rivals.pools rivals.sam rivals.clipseg rivals.things rivals.reid
        rivals.training rivals.quality rivals.card""",
    "wsss": """run_folders layouts palettes sets labels coco mask_faults label_checks check scoring maps evaluate
        reports labelling wording mask_settings attention_maps mask_job pseudo_masks deeplab borrowed networks samples
        schedule crops train_run train predict demo_report demo""",
    "bench": """process models published network scene localizer learner dataset crf ablation by_eye score uncertainty
        coverage methods published_networks operations backbones transformers""",
    "ceilings": "outlines thresholds measure",
    "conformance": "cases check",
    "cli": """options bars concepts cluster evaluate leaderboard plot ceilings predict rows segment bench project
        datasets scoring trial tune uncertainty wsss main __main__""",
}
"""The reading order inside of each room; what is imported late, inside of a function, may stand behind."""

HEAVY = {"torch", "diffusers", "transformers", "peft"}
LIGHT = """
errors types runtime.files images.arrays images.masks images.photos metrics statistics results datasets.load leaderboard
doctor subsets headline counts aliases presence pairs soft_maps conformance.check predictions provenance own_task score
foreign test_log phrases deaf network_free.method network_free.audit network_free.needed network_free.fitting
relations answering trial.run browser.write figures.write uncertainty.report bench.coverage bench.uncertainty
""".split()  # fmt: skip  # noqa: SIM905
"""Modules that work where no torch is."""

VAGUE = {"utils", "util", "helpers", "helper", "common", "base", "manager", "misc"}


def modules() -> list[Path]:
    return sorted(PACKAGE.rglob("*.py"))


def tracked() -> list[Path]:
    """What git holds or would take; every file of the tree where there is no git."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    try:
        done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
        files = [ROOT / name for name in done.stdout.split("\0") if name]
    except (OSError, subprocess.CalledProcessError):
        files = [path for top in ("prisbench", "baselines", "tests", "docs") for path in (ROOT / top).rglob("*")]
    return [path for path in files if path.is_file() and "__pycache__" not in path.parts]


def imports(source: str) -> Iterator[tuple[str, str]]:
    """(module, name) of every import; the name is empty for ``import module``."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (("." * node.level + (node.module or ""), alias.name) for alias in node.names)


def place(dotted: str) -> str:
    """``prisbench.datasets.load`` -> ``datasets``."""
    return dotted.split(".")[1]


def out_of_order(importer: str, source: str) -> list[str]:
    """What a module imports from prisbench that does not stand before it."""
    wrong = []
    for module, name in imports(source):
        if module.startswith("."):
            wrong.append(f"{module} (say prisbench....)")
        if module == "prisbench" and name and (PACKAGE / name).is_dir() | (PACKAGE / f"{name}.py").is_file():
            module = f"prisbench.{name}"
        if module.startswith("prisbench."):
            target = place(module)
            if target != importer and (target not in ORDER or ORDER.index(target) > ORDER.index(importer)):
                wrong.append(module)
    return wrong


def loaded(statement: str) -> set[str]:
    """The heavy packages in memory after a statement in a fresh interpreter."""
    code = f"{statement}\nimport sys\nprint(*({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    return set(done.stdout.splitlines()[-1].split())


def test_every_module_stands_in_the_reading_order() -> None:
    names = {path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in modules()} - {"__init__"}
    assert names <= set(ORDER), f"say in tests/test_house.py where these stand: {sorted(names - set(ORDER))}"


def test_modules_import_only_what_stands_before_them() -> None:
    wrong = {}
    for path in modules():
        parts = path.relative_to(PACKAGE).parts
        if parts != ("__init__.py",):
            found = out_of_order(parts[0].removesuffix(".py"), path.read_text())
            wrong |= {"/".join(parts): found} if found else {}
    assert wrong == {}


def test_the_order_would_be_noticed() -> None:
    assert out_of_order("images", "from prisbench.counts import count") == ["prisbench.counts"]
    assert out_of_order("images", "def f():\n    import prisbench.cli.main") == ["prisbench.cli.main"]
    assert out_of_order("images", "from prisbench import metrics") == ["prisbench.metrics"]
    assert out_of_order("metrics", "from prisbench.images.masks import to_rle\nimport numpy") == []
    assert out_of_order("datasets", "from prisbench.datasets.schema import Manifest") == []
    assert out_of_order("images", "from .errors import DataError") == [".errors (say prisbench....)"]


def inside(room: str) -> list[str]:
    """The modules of a room as they are on disk, dotted, without the room's own name."""
    files = [path.relative_to(PACKAGE / room).with_suffix("") for path in (PACKAGE / room).rglob("*.py")]
    return sorted(".".join(path.parts) for path in files if path.name != "__init__")


def imported_at_once(source: str) -> Iterator[str]:
    """Full names that a module imports when it is loaded: not inside of functions, not for type checkers alone."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Import | ast.ImportFrom):
            for module, name in imports(ast.unparse(node)):
                yield f"{module}.{name}" if name else module


def out_of_order_inside(room: str, module: str, source: str, order: list[str]) -> list[str]:
    """What a module imports of its own room that does not stand before it."""
    wrong = []
    for full in imported_at_once(source):
        if full.startswith(f"prisbench.{room}."):
            rest = full.removeprefix(f"prisbench.{room}.")
            target = rest if rest in order else rest.rpartition(".")[0]
            if target in order and order.index(target) >= order.index(module):
                wrong.append(target)
    return wrong


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_every_module_stands_in_the_reading_order_of_its_room(room: str) -> None:
    order = ROOMS[room].split()
    assert sorted(order) == inside(room), "say in tests/test_house.py where these stand"
    wrong = {}
    for module in order:
        source = (PACKAGE / room / f"{module.replace('.', '/')}.py").read_text()
        if found := out_of_order_inside(room, module, source, order):
            wrong[module] = found
    assert wrong == {}


def test_every_room_has_an_order() -> None:
    assert sorted(ROOMS) == sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


def test_an_order_inside_of_a_room_would_be_noticed() -> None:
    order = ["a", "b.c", "d"]
    assert out_of_order_inside("x", "a", "from prisbench.x.b.c import f", order) == ["b.c"]
    assert out_of_order_inside("x", "a", "from prisbench.x.b import c", order) == ["b.c"]
    assert out_of_order_inside("x", "d", "from prisbench.x import a\nfrom prisbench.x.b.c import f", order) == []
    assert out_of_order_inside("x", "a", "def f():\n    from prisbench.x import d", order) == []


def missing_in_the_map(text: str) -> list[str]:
    """The rooms and the files beside them that the README's file map does not name."""
    block = text.split("## Files")[1].split("\n## ")[0].split("\nDocuments:")[0]
    beside = [path.name for path in PACKAGE.glob("*.py") if path.stem != "__init__"]
    return [name for name in [*(f"{room}/" for room in ROOMS), *beside] if name not in block]


def test_the_file_map_of_the_readme_is_complete() -> None:
    text = (ROOT / "README.md").read_text()
    assert missing_in_the_map(text) == []
    assert missing_in_the_map(text.replace("metrics.py", "x.py")) == ["metrics.py"]


def test_importing_prisbench_loads_no_torch() -> None:
    assert loaded("import prisbench") == set()


def test_what_works_without_torch_loads_none() -> None:
    there = [name for name in LIGHT if (PACKAGE / f"{name.replace('.', '/')}.py").exists() or (PACKAGE / name).is_dir()]
    assert "datasets.load" in there
    assert loaded("\n".join(f"import prisbench.{name}" for name in there)) == set()


def test_help_loads_no_torch() -> None:
    call = (
        "import sys\nfrom prisbench.cli.main import main\nsys.argv = ['prisbench', '--help']\n"
        "try:\n    main()\nexcept SystemExit:\n    pass"
    )
    assert loaded(call) == set()


def test_loading_torch_would_be_noticed() -> None:
    assert loaded("import prisbench, torch") == {"torch"}


def test_the_public_names_are_all_there() -> None:
    for name, home in prisbench._HOME.items():
        if home in LIGHT:
            assert getattr(prisbench, name) is not None
        else:  # its source is read, since loading it would load torch
            tree = ast.parse((PACKAGE / f"{home.replace('.', '/')}.py").read_text())
            assert name in {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    assert dir(prisbench) == sorted(prisbench.__all__)
    with pytest.raises(AttributeError, match="module 'prisbench' has no attribute 'utils'"):
        prisbench.utils  # noqa: B018


def test_type_checkers_see_the_same_public_names() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {
        alias.asname: f"{node.module}"
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == {name: f"prisbench.{home}" for name, home in prisbench._HOME.items()}


def test_modules_import_by_attribute_too() -> None:
    assert prisbench.metrics.summarise.__module__ == "prisbench.metrics"


def test_no_module_has_a_vague_name() -> None:
    assert [path for path in modules() if path.stem in VAGUE or path.parent.name in VAGUE] == []


def diffusers_models(source: str) -> list[str]:
    """Names of model, pipeline and scheduler classes of diffusers that a module imports."""
    return [
        name or module
        for module, name in imports(source)
        if module.split(".")[0] == "diffusers"
        and (not name or re.search(r"(Model|Pipeline|AutoencoderKL|Scheduler)$", name))
    ]


def test_only_the_backbone_knows_the_model_classes_of_diffusers() -> None:
    # ``lean`` knows layers, and one that diffusers calls a model: Transformer2DModel.
    allowed = {
        PACKAGE / name
        for name in (
            "diffusion/loading.py",
            "diffusion/pipelines.py",
            "embedded/models.py",
            "embedded/dit.py",
            "speed/lean.py",
        )
    }
    wrong = {
        str(path): found for path in modules() if path not in allowed and (found := diffusers_models(path.read_text()))
    }
    assert wrong == {}


def test_a_model_class_elsewhere_would_be_noticed() -> None:
    assert diffusers_models("from diffusers import DDIMScheduler, UNet2DConditionModel") == [
        "DDIMScheduler",
        "UNet2DConditionModel",
    ]
    assert diffusers_models("import diffusers") == ["diffusers"]
    assert diffusers_models("from diffusers.models.attention_processor import Attention") == []


def private_imports(source: str) -> list[str]:
    """What a baseline takes from prisbench other than by ``from prisbench import ...``."""
    return [
        f"{module}.{name}".strip(".")
        for module, name in imports(source)
        if module.startswith("prisbench.") or (module == "prisbench" and (not name or name.startswith("_")))
    ]


def test_baselines_use_the_public_surface_only() -> None:
    sources = sorted((ROOT / "baselines").rglob("*.py"))
    assert {str(path): found for path in sources if (found := private_imports(path.read_text()))} == {}


def test_a_private_import_in_a_baseline_would_be_noticed() -> None:
    assert private_imports("from prisbench.images.masks import to_rle") == ["prisbench.images.masks.to_rle"]
    assert private_imports("import prisbench") == ["prisbench"]
    assert private_imports("from prisbench import _HOME") == ["prisbench._HOME"]
    assert private_imports("from prisbench import Concept, masks\nimport numpy") == []


SKIPS = """
import pytest

def test_is_skipped_inside():
    pytest.skip("no photos")

@pytest.mark.skipif(True, reason="no device")
def test_is_skipped_by_a_mark():
    pass

@pytest.mark.xfail(reason="known")
def test_is_known_to_fail():
    assert False
"""


@pytest.mark.parametrize(
    ("option", "code", "closing"), [("-q", 0, "2 skipped, 1 xfailed"), ("--no-skips", 1, "1 error")]
)
def test_a_skip_is_a_failure_where_everything_has_to_run(tmp_path: Path, option: str, code: int, closing: str) -> None:
    (tmp_path / "test_skips.py").write_text(SKIPS)
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-c", tmp_path / "none.ini", option, tmp_path]
    (tmp_path / "none.ini").write_text("[pytest]\n")
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == code and closing in done.stdout, done.stdout
    assert ("which --no-skips forbids: Skipped: no photos" in done.stdout) == (option == "--no-skips")


def test_no_file_is_too_large_to_clone() -> None:
    assert [path for path in tracked() if path.stat().st_size > 10_000_000] == []


MACHINE_PATH = re.compile(r"(?<![\w.~$}/-])/(?:work|root|home)(?=[/\s\"'`)\]]|$)", re.MULTILINE)


def test_no_file_names_a_place_on_somebodys_machine() -> None:
    wrong = []
    for path in tracked():
        data = path.read_bytes()
        if path != Path(__file__) and b"\0" not in data[:8192]:
            text = data.decode("utf-8", errors="replace")
            wrong += [f"{path.relative_to(ROOT)}: {match.group()}" for match in MACHINE_PATH.finditer(text)]
    assert wrong == []


def test_a_place_on_a_machine_would_be_noticed() -> None:
    for text in ('"/work/x"', "see /root", "cd /home/me"):
        assert MACHINE_PATH.search(text), text
    for text in ("https://example.org/home/x", "docs/work/x", "~/home", "$HOME/work/", "/workshop", "and/root cause"):
        assert not MACHINE_PATH.search(text), text


def test_the_lock_pins_what_the_project_wants() -> None:
    lines = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if not line.startswith("#")]
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9_.-]+==[0-9][0-9a-z.]*", line)] == []
    pinned = {line.split("==")[0].lower().replace("_", "-") for line in lines}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = [re.split(r"[>\[]", want)[0] for want in (*project["dependencies"], *extras["dev"], *extras["crf"])]
    assert [name for name in wanted if name not in pinned] == []


def test_version_and_licence_are_said_alike_everywhere() -> None:
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"version: {prisbench.__version__}\n" in citation
    assert "license: Apache-2.0\n" in citation
    assert "Apache License" in (ROOT / "LICENSE").read_text()[:200]
    assert (PACKAGE / "py.typed").exists()
