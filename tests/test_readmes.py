"""What the READMEs promise about the project: links, the map of the code, a main README that is short, and the
measurements that the page's tour quotes from them."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ddpm.ui.text import tour

ROOT = Path(__file__).parents[1]
READMES = ("README.md", "ddpm/README.md", "tests/README.md", "tests/benchmarks/README.md", ".github/CONTRIBUTING.md")
MAX_WORDS = 2000


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def anchors(text: str) -> set[str]:
    """The anchors of the headings, as GitHub and the Hub make them."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.+)$", prose, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("name", READMES)
def test_links_lead_to_a_file_and_a_heading_that_exist(name):
    for target in re.findall(r"\]\((?!https?:)([^)\s]+)\)", read(name)):
        path, _, anchor = target.partition("#")
        file = (ROOT / name).parent / path if path else ROOT / name
        assert file.exists(), f"{name} links to {target}, and there is no {path}"
        if anchor:
            assert anchor in anchors(file.read_text(encoding="utf-8")), f"{name} links to {target}, a missing heading"


def test_the_main_readme_can_be_read_in_one_sitting():
    words = re.sub(r"\A---\n.*?\n---\n", "", read("README.md"), flags=re.DOTALL).split()
    assert len(words) <= MAX_WORDS, f"README.md has {len(words)} words, {MAX_WORDS} is the limit"


def names_in(path: str) -> set[str]:
    """What a file defines: functions and classes, and `Class.method`; of JavaScript, every word."""
    source = read(path)
    if not path.endswith(".py"):
        return set(re.findall(r"\w+", source))
    found = set()
    for node in ast.parse(source).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        if isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{part.name}" for part in node.body if isinstance(part, ast.FunctionDef)}
    return found


def test_the_walks_through_the_code_name_files_and_functions_that_exist():
    steps = re.findall(r"`((?:[\w/]+/)?\w+\.(?:py|js))`((?:, `[\w.]+`)*)", read("ddpm/README.md"))
    assert len(steps) > 30
    for path, names in steps:
        if "/" not in path and path not in ("train.py", "app.py"):
            continue  # short names, in sections that say which folder they are about
        assert (ROOT / path).is_file(), f"ddpm/README.md names {path}, which does not exist"
        for name in re.findall(r"`([\w.]+)`", names):
            assert name in names_in(path), f"ddpm/README.md names {name} in {path}, which does not define it"


def test_the_table_of_modules_is_complete():
    section = read("ddpm/README.md").split("## The modules")[1]
    named = set()
    for folder, rows in re.findall(r"### `([\w/]+)/`\n(.*?)(?=\n### |\Z)", section, re.DOTALL):
        named |= {
            f"{folder}/{name}"
            for line in re.findall(r"^\| (`.+?`) \|", rows, re.MULTILINE)
            for name in re.findall(r"`([\w.]+)`", line)
        }
    there = {
        path.relative_to(ROOT).as_posix()
        for pattern in ("*.py", "*.js", "*.css")
        for path in (ROOT / "ddpm").rglob(pattern)
        if not path.name.startswith("__")
    }
    assert named == there, f"missing in the table: {sorted(there - named)}; not there: {sorted(named - there)}"


# Every measurement that the tour quotes, and the line of a README where it stands, by the start of the line.
QUOTED = {
    "0.0207": ("README.md", "| embedded `mnist`"),
    "1.590": ("README.md", "| embedded `mnist`"),
    "10,000": ("README.md", "| embedded `mnist`"),
    "1.026": ("README.md", "| [trained for the bound]"),
    "0.740": ("ddpm/README.md", "| the bound splits into KL terms"),
    "0.850": ("ddpm/README.md", "| the bound splits into KL terms"),
    "0.00003": ("ddpm/README.md", "| the bound splits into KL terms"),
    "0.0237": ("ddpm/README.md", "| the loss falls over training"),
    "1,000": ("ddpm/README.md", "| the loss falls over training"),
    "0.0215": ("ddpm/README.md", "| the loss falls over training"),
    "0.0210": ("ddpm/README.md", "| the loss falls over training"),
    "14,000": ("ddpm/README.md", "| the loss falls over training"),
    "6,000": ("ddpm/README.md", "| the loss falls over training"),
    "112": ("ddpm/README.md", "| minimising the KL leaves the MSE"),
    "6.9": ("ddpm/README.md", "| x_0 |"),
    "0.59": ("ddpm/README.md", "| epsilon (L_simple) |"),
    "22": ("ddpm/README.md", "| epsilon (L_simple) |"),
    "128": ("ddpm/README.md", "| epsilon, weights of the bound |"),
}
# The loss of predicting no noise and the first stop; the second stop; the size of the digits; the steps of a task.
NO_MEASUREMENTS = {"1", "2", "8", "10"}


@pytest.mark.parametrize("language", [0, 1], ids=["en", "zh"])
def test_the_tour_quotes_the_measurements_of_the_readmes(language):
    prose = " ".join(re.sub(r"\$[^$]*\$", "", pair[language]) for pair in tour.PAIRS.values())
    figures = set(re.findall(r"\d+(?:,\d{3})*(?:\.\d+)?", prose)) - NO_MEASUREMENTS
    assert figures == set(QUOTED)
    for figure, (name, start) in QUOTED.items():
        (line,) = (line for line in read(name).splitlines() if line.startswith(start))
        decimals = len(figure.partition(".")[2])
        there = [float(n.replace(",", "")) for n in re.findall(r"\d+(?:,\d{3})*(?:\.\d+)?(?:e-\d+)?", line)]
        assert float(figure.replace(",", "")) in [round(n, decimals) for n in there], f"{figure} is not in {line}"


BENCHMARKS = sorted((ROOT / "tests" / "benchmarks").glob("*.py"))
PROGRAMS = [path.name for path in BENCHMARKS if "__main__" in path.read_text()]


@pytest.mark.long
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_measurement_starts_with_the_command_of_its_readme(name):
    ran = subprocess.run(
        [sys.executable, f"tests/benchmarks/{name}", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert ran.returncode == 0, ran.stderr
    assert f"usage: {name}" in ran.stdout
