"""How the package is built: what it shares with the programs, and what the distribution brings."""

import importlib.metadata
import tomllib

from conftest import ROOT


def table(path: str):
    return tomllib.loads((ROOT / path).read_text())


def test_both_workspaces_lock_the_same_versions_and_so_compile_them_once():
    locked = {}
    for package in table("Cargo.lock")["package"]:
        locked.setdefault(package["name"], set()).add(package["version"])
    other = [
        f"{package['name']} {package['version']}"
        for package in table("python/Cargo.lock")["package"]
        if package["version"] not in locked.get(package["name"], {package["version"]})
    ]
    assert not other, "copy Cargo.lock over python/Cargo.lock, then run `cargo check` in python/"


def test_both_workspaces_have_one_version_and_one_release_profile():
    ours, theirs = table("python/Cargo.toml"), table("Cargo.toml")
    assert ours["profile"]["release"] == theirs["profile"]["release"]
    assert ours["package"]["version"] == theirs["workspace"]["package"]["version"]
    assert ours["package"]["rust-version"] == theirs["workspace"]["package"]["rust-version"]


def test_the_distribution_needs_no_other_and_says_what_it_is():
    distribution = importlib.metadata.distribution("datamill")
    assert [word for word in distribution.requires or [] if "extra ==" not in word] == []
    assert distribution.metadata["Requires-Python"] == ">=3.11"
    assert distribution.metadata["License-Expression"] == "MIT OR Apache-2.0"
    names = ["LICENSE-APACHE", "LICENSE-MIT", "LICENSE-THIRD-PARTY"]
    assert distribution.metadata.get_all("License-File") == names
    for name in names:
        assert distribution.read_text(f"licenses/{name}") == (ROOT / "python" / name).read_text("utf-8")


def test_the_types_of_the_module_are_those_that_it_has(python, tmp_path):
    known = tmp_path / "known"
    # before 3.12, no class shows that it has a buffer
    known.write_text("datamill._engine.__all__\ndatamill._engine.DownloadDataFile.__buffer__\n")
    ran = python("-m", "mypy.stubtest", "datamill._engine", "--allowlist", known, "--ignore-unused-allowlist")
    assert ran.returncode == 0, ran.stdout + ran.stderr
