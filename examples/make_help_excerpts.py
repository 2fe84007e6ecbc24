"""Makes summaries/summaries.csv and translation/translation.csv:

    python examples/make_help_excerpts.py                        # downloads two packages with apt-get (Debian 12)
    python examples/make_help_excerpts.py ENGLISH.deb FRENCH.deb  # reads packages that are already here

Both are excerpts of LibreOffice's help 7.4, English and French (MPL-2.0, see the NOTICE.txt beside each). Its pages are
HTML, and a paragraph has the same id in both languages.

summaries.csv: the first paragraphs of a page and its title, which is the target. Pages are left out if their title has
one word or more than twelve, if their text has fewer than 25 words, or if they share title or text with another page. A
text is cut after the sentence that contains its 50th word. Of the rest, the 1,400 that rank first by a hash are kept.

translation.csv: French paragraphs of 4 to 25 words and the English paragraphs of the same ids, each text once. Pairs
are left out if both texts are equal, or if one is more than twice as long as the other. Of the rest, the 2,000 that
rank first by a hash are kept. `page` names the page of a paragraph, so that a split can keep its paragraphs together.
"""

from __future__ import annotations

import csv
import hashlib
import io
import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from html.parser import HTMLParser
from pathlib import Path

PACKAGES = {
    "libreoffice-help-en-us": "8faa840285734d6cfe1ed25537b48f07e74bd6412e3917bf8e5f8a653f7b3712",
    "libreoffice-help-fr": "c796530d3e95af1ea4d054076682efc8aad2b569ae9513f3d4a776b2df3fd206",
}
HERE = Path(__file__).parent
SUMMARIES, PAIRS = 1400, 2000
SHORTEST_TEXT, LONGEST_TEXT = 25, 50
"""In words. A longer text is cut after the sentence that reaches LONGEST_TEXT."""


@dataclass
class Page(HTMLParser):
    """One page of the help: its title, and its paragraphs by id, in order."""

    title: str = ""
    paragraphs: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        self._key: str | None = None
        self._text: list[str] = []
        self._spans: list[bool] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if tag == "h1" or (tag == "p" and given.get("class") == "paragraph"):
            self._key = "title" if tag == "h1" else given.get("id")
            self._text = []
        elif tag == "br":
            self._text.append(" ")
        elif tag == "span":  # names of menus and keys on a Mac, in addition to those on other systems
            self._spans.append(given.get("class") == "MAC")

    def handle_data(self, data: str) -> None:
        if not any(self._spans):
            self._text.append(data)

    def handle_endtag(self, tag: str) -> None:
        if tag == "span" and self._spans:
            self._spans.pop()
        if tag not in ("h1", "p") or self._key is None:
            return
        text = " ".join("".join(self._text).split())
        if self._key == "title":
            self.title = self.title or text
        elif text:
            self.paragraphs.setdefault(self._key, text)
        self._key = None


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(name) for name in sys.argv[1:]] or fetch(Path(folder))
        english, french = (pages(file, sha256) for file, sha256 in zip(files, PACKAGES.values(), strict=True))
    write(HERE / "summaries" / "summaries.csv", ("text", "title"), first(summaries(english.values()), SUMMARIES))
    write(HERE / "translation" / "translation.csv", ("french", "english", "page"), first(pairs(english, french), PAIRS))


def fetch(folder: Path) -> list[Path]:
    """Download the two packages without installing them."""
    subprocess.run(["apt-get", "download", *PACKAGES], check=True, cwd=folder)
    return [next(folder.glob(f"{package}_*.deb")) for package in PACKAGES]


def pages(package: Path, sha256: str) -> dict[str, Page]:
    """The pages of a package, by their paths under the language's folder."""
    content = package.read_bytes()
    if hashlib.sha256(content).hexdigest() != sha256:
        raise SystemExit(f"{package} is not the file that the excerpts were made from")
    found = {}
    with tarfile.open(fileobj=io.BytesIO(data_of(content))) as archive:
        for member in archive:
            place = re.search(r"/help/[^/]+/text/(.+)\.html$", member.name)
            file = archive.extractfile(member) if place and member.isfile() else None
            if place and file:
                page = Page()
                page.feed(file.read().decode())
                found[place[1]] = page
    return found


def data_of(package: bytes) -> bytes:
    """The data archive of a Debian package, which is an `ar` archive of three members."""
    place = 8
    while place < len(package):
        name, size = package[place : place + 16].split(b"/")[0].strip(), int(package[place + 48 : place + 58])
        if name.startswith(b"data.tar"):
            return package[place + 60 : place + 60 + size]
        place += 60 + size + size % 2
    raise SystemExit("the package has no data")


def summaries(found: Iterable[Page]) -> Iterator[tuple[str, str]]:
    """Text and title of the suitable pages."""
    texts: dict[str, list[tuple[str, str]]] = {}
    for page in found:
        text = beginning(page.paragraphs.values())
        if 2 <= len(page.title.split()) <= 12 and len(text.split()) >= SHORTEST_TEXT:
            for key in (same(text), same(page.title)):
                texts.setdefault(key, []).append((text, page.title))
    for text, title in (row for rows in texts.values() for row in rows[:1]):
        if len(texts[same(text)]) == len(texts[same(title)]) == 1:
            yield text, title


def beginning(paragraphs: Iterable[str]) -> str:
    """The first paragraphs, up to the end of the sentence that contains word LONGEST_TEXT."""
    text = ""
    for paragraph in paragraphs:
        for sentence in re.split(r"(?<=[.!?:]) ", paragraph):
            if len(text.split()) >= LONGEST_TEXT:
                return text
            text = f"{text} {sentence}".strip()
    return text


def pairs(english: dict[str, Page], french: dict[str, Page]) -> Iterator[tuple[str, str, str]]:
    """French text, English text and page of the suitable paragraphs, each text once."""
    seen: set[str] = set()
    for place, page in french.items():
        other = english[place].paragraphs if place in english else {}
        for key, text in page.paragraphs.items():
            translated = other.get(key, "")
            lengths = len(text.split()), len(translated.split())
            known = {same(text), same(translated)}
            if 4 <= lengths[0] <= 25 and max(lengths) <= 2 * min(lengths) and len(known) == 2 and not known & seen:
                seen |= known
                yield text, translated, place


def first(rows: Iterable[Sequence[str]], count: int) -> list[Sequence[str]]:
    """The rows that rank first by a hash of their first text, in that order: effectively random, but reproducible."""
    return sorted(set(rows), key=lambda row: hashlib.sha256(row[0].encode()).digest())[:count]


def same(text: str) -> str:
    """A text without case, spacing and punctuation, to recognise copies of it."""
    return " ".join(re.findall(r"\w+", text.casefold()))


def write(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    print(f"{len(rows)} rows in {path}")


if __name__ == "__main__":
    main()
