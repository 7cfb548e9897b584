"""The copy of a checkout that wheels are built from."""

import subprocess

from tools.wheels import copy_checkout


def test_copies_what_git_knows_or_would_add(tmp_path, monkeypatch):
    checkout = tmp_path / "checkout"
    (checkout / "folder").mkdir(parents=True)
    monkeypatch.chdir(checkout)
    files = {
        ".gitignore": "ignored\n",
        "folder/known": "new",
        "folder/other ä\n": "untracked",
        "ignored": "",
        "gone": "",
        "script": "#!/bin/sh\n",
    }
    for name, text in files.items():
        (checkout / name).write_text(text)
    (checkout / "script").chmod(0o700)
    (checkout / "folder/known").chmod(0o660)
    subprocess.run(["git", "init", "--quiet"], check=True)
    subprocess.run(["git", "add", "folder/known", "gone", "script"], check=True)
    (checkout / "gone").unlink()

    copy = tmp_path / "new" / "copy"
    copy_checkout.copy(copy)
    copied = {
        str(path.relative_to(copy)): (path.read_text(), path.stat().st_mode)
        for path in copy.rglob("*")
        if path.is_file()
    }
    assert copied == {
        ".gitignore": ("ignored\n", 0o100644),
        "folder/known": ("new", 0o100644),
        "folder/other ä\n": ("untracked", 0o100644),
        "script": ("#!/bin/sh\n", 0o100755),
    }
