import json

import pytest

from benchmarks import report
from benchmarks.report import Floor, Section

ABOUT = {
    "date": "2026-01-02",
    "versions": {"flaxlayer": "1.2.3", "jax": "0.9"},
    "kernels": {"rng_fold": "native"},
    "machine": {
        "cpu": "A CPU",
        "cores": 2,
        "system": "Linux x86_64",
        "load": 0.1,
    },
}
STEP = Section(
    "A step",
    {
        "small": {"ours": [1e-3, 2e-3, 3e-3], "theirs": [2e-3, 6e-3, 6e-3]},
        "large": {"ours": [1.0], "theirs": [3.5]},
    },
    [("theirs", "ours")],
)
MEMORY = Section("Memory", {"peak": {"ours": [512]}}, unit="MB", note="Of it.")


def made(*floors, sections=None, **options):
    return report.Report(
        ABOUT,
        {"cold_rounds": 3, "sizes": (1, 2), "blocks": None},
        {"step": STEP, "memory": MEMORY} if sections is None else sections,
        floors,
        **options,
    )


def rows(text, title):
    """The cells of the table below a title, header first."""
    table = text.split(f"**{title}**")[1].split("**")[0]
    lines = [line for line in table.splitlines() if line.startswith("|")]
    return [
        [cell.strip() for cell in line.strip("|").split("|")]
        for index, line in enumerate(lines)
        if index != 1
    ]


def test_the_report_says_of_what_it_is():
    text = made().markdown()
    for part in (
        "flaxlayer 1.2.3, jax 0.9; kernels: rng_fold native.",
        "A CPU, 2 cores, Linux x86_64, load 0.1 at the start; 2026-01-02.",
        "Settings: cold rounds 3, sizes 1 2.",
    ):
        assert part in text
    assert "smoke" not in text


def test_a_table_has_quartiles_and_ratios_in_units_that_suit():
    assert rows(made().markdown(), "A step") == [
        ["measure", "ours", "theirs", "theirs / ours"],
        ["small, ms", "2 [1.50, 2.50]", "6 [4, 6]", "2 [2, 2.50]"],
        # One round has no quartiles.
        ["large, s", "1", "3.50", "3.50"],
    ]


def test_other_units_stay_as_they_are():
    text = made().markdown()
    assert rows(text, "Memory") == [["measure", "ours"], ["peak, MB", "512"]]
    assert "\nOf it.\n" in text


def test_what_was_not_measured_is_left_empty():
    values = {"a": {"x": [1.0]}, "b": {"y": [2.0], "x": [4.0]}}
    section = Section("Some", values, [("x", "y")], unit="")
    assert rows(made(sections={"some": section}).markdown(), "Some") == [
        ["measure", "x", "y", "x / y"],
        ["a", "1", "", ""],
        ["b", "4", "2", "2"],
    ]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        ([12.0, 12.5, 13.0], "s: 12.5 [12.2, 12.8]"),
        ([2e-6, 2.5e-6], "µs: 2.25 [2.12, 2.38]"),
        ([0.1234], "ms: 123"),
        ([1.5, 0.004, 0.004], "ms: 4 [4, 752]"),
    ],
)
def test_numbers_have_three_digits(seconds, shown):
    section = Section("Times", {"t": {"x": seconds}})
    _, (measure, value) = rows(
        made(sections={"times": section}).markdown(), "Times"
    )
    assert f"{measure.removeprefix('t, ')}: {value}" == shown


def test_floors_are_ratios_or_values():
    checked = made(
        Floor("step", "small", "theirs", "ours", ">=", 2.0),
        Floor("step", "small", "ours", "theirs", "<=", 0.4),
        Floor("memory", "peak", "ours", None, "<=", 600.0, 512.0),
    ).checked()
    assert [floor["holds"] for floor in checked] == [True, False, True]
    assert [floor["median"] for floor in checked] == [2.0, 0.5, 512.0]
    assert [floor["ratio"] for floor in checked] == [
        "theirs / ours",
        "ours / theirs",
        "ours",
    ]


def test_floors_of_what_was_not_measured_do_not_count():
    assert not made(
        Floor("elsewhere", "small", "theirs", "ours", ">=", 9.0),
        Floor("step", "medium", "theirs", "ours", ">=", 9.0),
        Floor("step", "small", "nobody", "ours", ">=", 9.0),
    ).checked()


@pytest.mark.parametrize(
    ("bound", "aim", "verdict"),
    [
        (2.0, None, "pass"),
        (1.5, 2.0, "pass, aim met"),
        (2.0, 2.1, "pass, aim missed"),
        (2.01, 3.0, "MISS"),
    ],
)
def test_the_verdict(bound, aim, verdict):
    found = made(Floor("step", "small", "theirs", "ours", ">=", bound, aim))
    header, row = rows(found.markdown(), "Floors")
    cells = dict(zip(header, row, strict=True))
    assert cells["table"] == "step"
    assert cells["floor"] == f">= {bound:g}"
    assert cells.get("aim") == (None if aim is None else f">= {aim:g}")
    assert cells["measured"] == "2 [2, 2.500]"
    assert cells[""] == verdict
    assert found.missed == (verdict == "MISS")


def test_a_bound_is_in_the_unit_of_the_section():
    floor = Floor("memory", "peak", "ours", None, "<=", 400e3)
    (checked,) = made(floor).checked()
    assert checked["floor"] == "<= 400000 MB"


def test_a_smoke_run_says_so():
    assert made(smoke=True).markdown().startswith("**A smoke run")


def test_both_forms_are_written(tmp_path):
    found = made(Floor("step", "small", "theirs", "ours", ">=", 2.0, 3.0))
    found.write(tmp_path / "new", "some")
    assert (tmp_path / "new" / "some.md").read_text() == found.markdown()
    stored = json.loads((tmp_path / "new" / "some.json").read_text())
    assert stored["versions"] == ABOUT["versions"]
    assert stored["settings"]["sizes"] == [1, 2]
    assert stored["floors"][0]["aim_met"] is False
    small = stored["sections"]["step"]["measures"]["small"]
    assert small["theirs"]["values"] == [2e-3, 6e-3, 6e-3]
    assert small["theirs"]["spread"]["median"] == 6e-3
    assert stored["sections"]["memory"]["unit"] == "MB"


def test_stored_numbers_have_six_digits():
    section = Section("Thirds", {"t": {"x": [1 / 3]}})
    stored = json.loads(made(sections={"thirds": section}).as_json())
    measures = stored["sections"]["thirds"]["measures"]
    assert measures["t"]["x"]["values"] == [0.333333]


def test_the_environment_has_what_the_report_says():
    about = report.environment()
    assert about["kernels"].keys() >= {"rng_fold"}
    report.Report(about, {}, {}, ()).markdown()
