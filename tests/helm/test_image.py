"""The image, made from the built binary by `sidecar/image`."""

import gzip
import hashlib
import io
import json
import os
import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

import chart

SCRIPT = chart.ROOT / "sidecar" / "image"


def make(*arguments):
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def binary(tmp_path_factory):
    """The built binary without its debug information, as `--profile dist` makes it."""
    stripped = tmp_path_factory.mktemp("binary") / "koorde"
    subprocess.run(["strip", "-o", str(stripped), chart.KOORDE], check=True, timeout=300)
    return stripped


@pytest.fixture(scope="module")
def archive(binary, tmp_path_factory):
    """Name and contents of every file of the archive."""
    path = tmp_path_factory.mktemp("image") / "koorde.tar"
    done = make(binary, path, "--max-size", 1000, "--tag", "registry.example.com/koorde:1.2.3")
    assert done.returncode == 0, done.stderr
    with tarfile.open(path) as tar:
        return {entry.name: tar.extractfile(entry).read() for entry in tar if entry.isfile()}


def blob(archive, descriptor):
    data = archive["blobs/sha256/" + descriptor["digest"].removeprefix("sha256:")]
    assert len(data) == descriptor["size"]
    return data


def test_the_archive_is_an_oci_layout_whose_digests_hold(archive):
    assert json.loads(archive["oci-layout"]) == {"imageLayoutVersion": "1.0.0"}
    for name, data in archive.items():
        if name.startswith("blobs/sha256/"):
            assert hashlib.sha256(data).hexdigest() == name.removeprefix("blobs/sha256/")
    (found,) = json.loads(archive["index.json"])["manifests"]
    assert found["annotations"]["io.containerd.image.name"] == "registry.example.com/koorde:1.2.3"
    manifest = json.loads(blob(archive, found))
    config = json.loads(blob(archive, manifest["config"]))
    (layer,) = manifest["layers"]
    raw = gzip.decompress(blob(archive, layer))
    assert config["rootfs"]["diff_ids"] == ["sha256:" + hashlib.sha256(raw).hexdigest()]
    assert config["config"]["User"] == "65532:65532"
    assert config["config"]["Entrypoint"] == ["/usr/bin/koorde"] and config["config"]["Cmd"] == ["serve"]
    assert (config["os"], config["architecture"]) == ("linux", {"x86_64": "amd64", "aarch64": "arm64"}[os.uname().machine])
    (docker,) = json.loads(archive["manifest.json"])
    assert docker["RepoTags"] == ["registry.example.com/koorde:1.2.3"]
    assert {docker["Config"], *docker["Layers"]} <= set(archive)


def test_the_image_has_no_shell_and_nothing_that_changes_users(archive, tmp_path):
    with layer(archive) as tar:
        entries = {entry.name: entry for entry in tar}
    for name, entry in entries.items():
        assert entry.uid == entry.gid == entry.mtime == 0 and (entry.isdir() or entry.isfile()), name
        assert not entry.mode & 0o6022, f"{name} is writable or changes the user"
    files = {name for name, entry in entries.items() if entry.isfile()}
    others = {n for n in files if not re.fullmatch(r"(usr/)?lib(64)?/.*\.so(\.\d+)*", n)}
    assert others == {"usr/bin/koorde", "etc/passwd", "etc/group", "etc/nsswitch.conf"}


def layer(archive):
    (found,) = json.loads(archive["index.json"])["manifests"]
    (descriptor,) = json.loads(blob(archive, found))["layers"]
    return tarfile.open(fileobj=io.BytesIO(blob(archive, descriptor)))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may change the root folder")
def test_it_runs_in_its_own_root_as_its_own_user(archive, tmp_path):
    with layer(archive) as tar:
        tar.extractall(tmp_path, filter="tar") if hasattr(tarfile, "tar_filter") else tar.extractall(tmp_path)

    def run(*arguments):
        command = ["chroot", "--userspec=65532:65532", str(tmp_path), "/usr/bin/koorde", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120)

    tmp_path.chmod(0o755)
    assert run("--version").stdout.startswith("koorde ")
    # A runtime brings these two; names resolve without anything else of the system.
    (tmp_path / "etc" / "hosts").write_text("127.0.0.1 node.example\n")
    done = run("get", "http://o/", "--node", "http://node.example:1")
    assert "Connection refused" in done.stderr, done.stderr


def test_the_same_binary_gives_the_same_archive(tmp_path):
    small = Path("/bin/true").resolve()
    for name in ("one", "two"):
        assert make(small, tmp_path / name).returncode == 0
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_what_would_be_no_good_image_is_refused(tmp_path):
    done = make(chart.KOORDE, tmp_path / "x.tar", "--max-size", 1)
    assert done.returncode == 1
    assert re.fullmatch(
        r"sidecar/image: \d+\.\d MB: must be at most --max-size 1; build with --profile dist, which also strips it\n",
        done.stderr,
    )
    assert "must be a 64-bit ELF file" in make(SCRIPT, tmp_path / "x.tar").stderr
    assert "must be name:tag" in make(chart.KOORDE, tmp_path / "x.tar", "--tag", "koorde").stderr
    assert not (tmp_path / "x.tar").exists()


def test_the_dockerfile_makes_the_same_image(archive):
    (found,) = json.loads(archive["index.json"])["manifests"]
    config = json.loads(blob(archive, json.loads(blob(archive, found))["config"]))["config"]
    said = {}
    for line in (chart.ROOT / "sidecar" / "Dockerfile").read_text().rpartition("FROM scratch")[2].splitlines():
        word, _, rest = line.partition(" ")
        if rest:
            said[word] = rest
    assert said["USER"] == config["User"]
    assert json.loads(said["ENTRYPOINT"]) == config["Entrypoint"] and json.loads(said["CMD"]) == config["Cmd"]
    assert [said["ENV"]] == config["Env"]
    assert {f"{port}/tcp" for port in said["EXPOSE"].split()} == set(config["ExposedPorts"])
    toolchain = re.search(r"FROM rust:(\S+)-", (chart.ROOT / "sidecar" / "Dockerfile").read_text())[1]
    assert f'rust-version = "{toolchain}"' in (chart.ROOT / "Cargo.toml").read_text()
