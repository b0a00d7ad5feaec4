"""The house: ten rooms, imports that point downwards only, and the sizes that keep it readable."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mmutils"
ROOMS = "statistics runs data batches models evaluation methods training report reproduce".split()  # noqa: SIM905
COMMANDS = ["predict", "translate"]
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(PACKAGE.rglob("*.py"))
}
READING_PATH = (
    "__init__.py",
    "data/__init__.py",
    "batches/__init__.py",
    "models/encoder.py",
    "methods/clip.py",
    "training/loop.py",
)


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def imports(module: str) -> set[str]:
    """The modules of the package that a module imports anywhere, also inside functions."""
    path, names = FILES[module], set()
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            names |= {f"{source}.{alias.name}" if f"{source}.{alias.name}" in FILES else source for alias in node.names}
    return {name for name in names if name in FILES} - {module}


def floor(module: str) -> int:
    """The floor of a module's room, counted from the ground; the commands are above all rooms, `mmutils` below."""
    parts = module.split(".")
    return [*ROOMS, *COMMANDS].index(parts[1]) if len(parts) > 1 else -1


def test_rooms_are_the_folders():
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert rooms == set(ROOMS)
    entries = {path for path in PACKAGE.iterdir() if path.name != "__pycache__"}
    assert len(entries) + 1 <= 14, "as `find mmutils -maxdepth 1` counts"


@pytest.mark.parametrize("module", [name for name in FILES if name != "mmutils"])
def test_a_room_imports_only_from_rooms_below(module):
    sources = imports(module)
    room = module.split(".")[1]
    assert [name for name in sources if floor(name) > floor(module)] == []
    assert [name for name in sources if name.split(".")[1:2] in ([command] for command in COMMANDS)] == []
    assert room in ROOMS + COMMANDS


def test_no_cycle_between_files():
    graph = {name: imports(name) for name in FILES}
    assert list(TopologicalSorter(graph).static_order())  # CycleError names the files


@pytest.mark.parametrize("module", FILES)
def test_no_file_and_no_function_is_long(module):
    path = FILES[module]
    assert lines(path) <= 250
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno + 1 <= 60, node.name


def test_package_and_reading_path_are_short():
    assert sum(map(lines, FILES.values())) <= 11_040
    assert sum(lines(PACKAGE / name) for name in READING_PATH) <= 750


def test_tests_mirror_the_tree():
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert folders - {"benchmarks", "gpu"} <= set(ROOMS)


def test_import_loads_no_torch():
    modules = "mmutils.data, mmutils.statistics, mmutils.runs, mmutils.report.rendering"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False", done.stderr


def test_figures_need_no_renderer():
    code = "import sys, mmutils.report.plots; print([m for m in ('torch', 'typst', 'fontTools.subset', 'ziamath', "
    code += "'mmutils.report.html', 'mmutils.report.pdf') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


def test_benchmarks_find_the_package_from_wherever_they_are_started():
    for path in sorted((ROOT / "tests" / "benchmarks").glob("*.py")):
        finds = "sys.path.insert" if path.stem == "compare" else "import compare"
        assert finds in path.read_text() or "from compare import" in path.read_text(), path.name
