"""Adds up the test cases of Bazel test runs.

    count_tests.py EVENTS...

Each argument is a file that `bazel test --build_event_json_file` wrote. It
names the XML report of every test that belongs to the run; reports of earlier
runs that are still on disk are not counted. Prints `PASSED FAILED SKIPPED`.
"""

import json
import pathlib
import sys
import urllib.parse
import urllib.request
import xml.etree.ElementTree as ET


def reports(events: str) -> list[pathlib.Path]:
    """The XML reports of one run, the last attempt of each test's."""
    found = {}
    for line in pathlib.Path(events).read_text().splitlines():
        event = json.loads(line)
        if "testResult" not in event:
            continue
        test = event["id"]["testResult"]
        key = (test["label"], test.get("run"), test.get("shard"))
        for output in event["testResult"]["testActionOutput"]:
            if output["name"] == "test.xml":
                path = urllib.parse.urlparse(output["uri"]).path
                found[key] = pathlib.Path(urllib.request.url2pathname(path))
    return list(found.values())


def count(report: pathlib.Path) -> tuple[int, int, int]:
    """The passed, failed and skipped cases of one report."""
    passed = failed = skipped = 0
    for case in ET.parse(report).iter("testcase"):
        # GoogleTest marks a skipped or disabled case in an attribute.
        if case.find("failure") is not None or case.find("error") is not None:
            failed += 1
        elif (
            case.find("skipped") is not None
            or case.get("result") in ("skipped", "suppressed")
            or case.get("status") == "notrun"
        ):
            skipped += 1
        else:
            passed += 1
    return passed, failed, skipped


def main(events: list[str]) -> None:
    """Prints the sums over all runs."""
    counts = [count(report) for run in events for report in reports(run)]
    print(*(sum(column) for column in zip((0, 0, 0), *counts, strict=True)))


if __name__ == "__main__":
    main(sys.argv[1:])
