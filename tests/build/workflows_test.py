"""What the workflows of .github say that no linter knows about."""

import itertools
import os
import pathlib
import re
import subprocess
import tomllib

import pytest
import yaml

WORKFLOWS = sorted(pathlib.Path(".github/workflows").glob("*.yml"))
TEXTS = {path.stem: path.read_text() for path in WORKFLOWS}
PARSED = {name: yaml.safe_load(text) for name, text in TEXTS.items()}
JOBS = {
    f"{name}.{job}": body
    for name, workflow in PARSED.items()
    for job, body in workflow["jobs"].items()
}
STEPS = [
    (name, step) for name, job in JOBS.items() for step in job.get("steps", [])
]
RUNS = [(name, step["run"]) for name, step in STEPS if "run" in step]
PYTHONS = re.findall(
    r"Python :: (3\.\d+)", pathlib.Path("pyproject.toml").read_text()
)

# A use of an action, with the version of the commit as a comment.
PINNED = re.compile(
    r" *(?:- )?uses: (?P<action>[\w.-]+/[\w./-]+)@(?P<commit>[0-9a-f]{40})"
    r" # v(?P<version>\d+\.\d+\.\d+)"
)


def commands(script):
    """The files of the repository that a script runs, with their arguments."""
    for line in re.split(r"\n|&&|\|\||;", script.replace("\\\n", " ")):
        words = line.split()
        while words and (words[0] in ("python3", "bash") or "=" in words[0]):
            words = words[1:]
        if words and re.match(r"[\w.-]+/", words[0]):
            yield words[0], words[1:]


def test_commands_are_found_in_scripts():
    script = (
        "A=1 tools/dev lock && .ci/run || true\n"
        "python3 tools/x.py one \\\n  two >file\ngit push; ls\n"
    )
    assert list(commands(script)) == [
        ("tools/dev", ["lock"]),
        (".ci/run", []),
        ("tools/x.py", ["one", "two", ">file"]),
    ]


def test_the_workflows_there_are():
    assert set(TEXTS) == {"ci", "docs", "locks", "nightly", "wheels"}


@pytest.mark.parametrize("name", TEXTS)
def test_every_action_is_pinned_by_commit_and_named_by_version(name):
    lines = [line for line in TEXTS[name].splitlines() if "uses:" in line]
    assert lines
    for line in lines:
        assert PINNED.fullmatch(line), line
    # What the lines say is all there is.
    used = [
        s["uses"]
        for job, s in STEPS
        if job.startswith(f"{name}.")
        if "uses" in s
    ]
    pinned = [PINNED.fullmatch(line) for line in lines]
    assert used == [f"{p['action']}@{p['commit']}" for p in pinned]


def test_an_action_has_one_commit_everywhere():
    text = "\n".join(TEXTS.values())
    matches = [PINNED.fullmatch(line) for line in text.splitlines()]
    pins = {match.groups() for match in matches if match}
    actions = [action for action, _, _ in pins]
    assert sorted(actions) == sorted(set(actions))


@pytest.mark.parametrize("name", PARSED)
def test_a_workflow_may_do_nothing_but_what_its_jobs_say(name):
    assert PARSED[name]["permissions"] == {}
    assert "group" in PARSED[name]["concurrency"]


@pytest.mark.parametrize("name", JOBS)
def test_a_job_has_an_end_and_says_what_it_may_do(name):
    job = JOBS[name]
    assert 0 < job["timeout-minutes"] <= 90
    assert isinstance(job["permissions"], dict)
    assert "latest" not in str(job["runs-on"])


@pytest.mark.parametrize("name", JOBS)
def test_a_job_that_may_write_runs_nothing_from_elsewhere(name):
    writes = {k for k, v in JOBS[name]["permissions"].items() if v == "write"}
    for step_of, step in STEPS:
        if step_of == name and writes:
            assert not list(commands(step.get("run", ""))), step
            assert "setup-" not in step.get("uses", "")


def test_a_checkout_leaves_no_credentials_behind():
    checkouts = [
        s for _, s in STEPS if "actions/checkout@" in s.get("uses", "")
    ]
    assert checkouts
    for step in checkouts:
        assert step["with"]["persist-credentials"] is False


def test_scripts_of_the_repository_are_there():
    run = {path for _, script in RUNS for path, _ in commands(script)}
    assert {"tools/dev", ".ci/run", "tools/release/notes.py"} <= run
    for path in run:
        assert pathlib.Path(path).is_file(), path


def test_commands_of_tools_dev_are_in_its_help(tmp_path):
    usage = subprocess.run(
        ["tools/dev", "help"],
        check=True,
        capture_output=True,
        text=True,
        env=os.environ | {"HOME": str(tmp_path)},
    ).stdout
    known = set(re.findall(r"^  ([a-z]+)\b", usage, re.MULTILINE))
    asked = {
        arguments[0]
        for _, script in RUNS
        for path, arguments in commands(script)
        if path == "tools/dev"
    }
    assert {"docs", "lock", "sdist", "test", "wheel"} <= asked
    assert asked <= known


def test_every_python_is_tested_with_the_newest_and_the_oldest():
    job = PARSED["ci"]["jobs"]["python"]
    matrix = job["strategy"]["matrix"]
    assert matrix["python-version"] == PYTHONS
    pairs = set(itertools.product(matrix["python-version"], matrix["lock"]))
    elsewhere = {(e["python-version"], e["lock"]) for e in matrix["exclude"]}
    assert pairs == set(itertools.product(PYTHONS, ("", "--floor")))
    # What is left out is what .ci/run does.
    (setup,) = (
        step
        for step in PARSED["ci"]["jobs"]["ci"]["steps"]
        if "actions/setup-python@" in step.get("uses", "")
    )
    assert elsewhere == {(setup["with"]["python-version"], "")}


def test_other_jobs_take_a_python_that_is_supported():
    versions = {
        version
        for _, step in STEPS
        if "actions/setup-python@" in step.get("uses", "")
        for version in step["with"]["python-version"].splitlines()
    } - {"${{ matrix.python-version }}"}
    assert versions
    assert versions <= set(PYTHONS)


def test_the_required_check_waits_for_all_other_jobs():
    jobs = set(PARSED["ci"]["jobs"])
    assert set(PARSED["ci"]["jobs"]["required"]["needs"]) == jobs - {"required"}


def test_nothing_is_published_but_for_a_tag():
    jobs = PARSED["wheels"]["jobs"]
    assert jobs["attest"]["if"] == (
        "github.event_name == 'push' && github.ref_type == 'tag'"
    )
    # A job is skipped with what it needs.
    assert jobs["publish"]["needs"] == "attest"
    assert jobs["release"]["needs"] == "publish"
    for name, job in jobs.items():
        if "write" in job["permissions"].values():
            assert name in ("attest", "publish", "release")
    assert PARSED["wheels"][True]["push"] == {"tags": ["v*"]}  # `on` is True


def test_every_python_installs_what_is_published():
    jobs = PARSED["wheels"]["jobs"]
    assert "rehearse" in jobs["attest"]["needs"]
    *_, setup, _, rehearsal = jobs["rehearse"]["steps"]
    assert setup["with"]["python-version"].split() == PYTHONS
    assert rehearsal["run"].split() == ["tools/dev", "rehearse", *PYTHONS]


def test_a_tag_is_compared_with_the_version_before_anything_is_built():
    jobs = PARSED["wheels"]["jobs"]
    runs = [s["run"] for s in jobs["sdist"]["steps"] if "run" in s]
    assert runs[0].startswith(
        'python3 tools/release/notes.py "$GITHUB_REF_NAME"'
    )
    assert jobs["wheels"]["needs"] == "sdist"


def test_a_pull_request_that_touches_the_packaging_builds_it():
    paths = PARSED["wheels"][True]["pull_request"]["paths"]
    for path in paths:
        assert any(pathlib.Path().glob(path)), path
    build = tomllib.loads(pathlib.Path("pyproject.toml").read_text())
    settings = str(build["tool"]["cibuildwheel"])
    used = re.findall(r"\{project\}/([\w./]+)", settings)
    assert used
    for path in used:
        folder = f"{path.rpartition('/')[0]}/**"
        assert path in paths or folder in paths, path
