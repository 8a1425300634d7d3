"""Which bands of a file are red, green, blue and near infrared: by colour interpretation, then by description.

Both are read for each file separately. If they contradict each other, or name only some of the model's bands, the
file is refused, and the message suggests ``--bands``. If they name none, the first bands are used, with a note.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rscd.core.errors import DataError, UsageError
from rscd.options.pair import PairConfig
from rscd.scene.raster import gdal_errors

NIR = "nir"
_TAGS = {"red", "green", "blue", NIR, "pan", "coastal", "rededge", "swir", "mwir", "lwir", "tir", "other_ir"}
"""GDAL's colour interpretations that name a part of the spectrum; others, such as gray and undefined, do not."""
_NO_LIGHT = {"cyan", "magenta", "black", "hue", "saturation", "lightness", "Y", "Cb", "Cr"}
"""Colour interpretations of other colour spaces."""
_SHORT = {"r": "red", "g": "green", "b": "blue"}
_SENTINEL = {"b02": "blue", "b03": "green", "b04": "red", "b08": NIR}
"""Band numbers as Sentinel-2 writes them, with a leading zero."""
_NUMBERED = re.compile(r"(?:sr_)?b(\d{1,2})(?:\D.*)?")
_BY_NUMBER = (
    ({"4": "red", "3": "green", "2": "blue"}, "of Sentinel-2, Landsat 8 or 9"),
    ({"3": "red", "2": "green", "1": "blue"}, "of Landsat 4 to 7"),
)
"""Numbers without a leading zero: satellites differ."""
_NEAR_INFRARED = re.compile(r"near[\W_]*infra[\W_]*red|near[\W_]*ir\b|\bnir\d?\b")
_BEYOND = re.compile(
    r"short[\W_]*wave|swir|thermal|\btirs?\b|red[\W_]*edge|vegetation|coastal|aerosol|cirrus|vapou?r|pan(?:chromatic)?\b"
)
"""Words for bands other than these four, although their names may contain "red" or "blue"."""
OTHER = "other"


@dataclass(frozen=True)
class Bands:
    """The bands of a file that are used, from 1."""

    read: tuple[int, ...]
    """Bands for the model, in the contract's order."""
    nir: int | None = None
    """Near infrared that is read in addition, for the polygons' columns."""
    alpha: int | None = None
    """The band whose zeros mean not observable."""
    notes: tuple[str, ...] = ()
    """Notes on guesses, and other information."""


@dataclass(frozen=True)
class _Named:
    """Information on bands in a file."""

    tags: tuple[str, ...]
    """GDAL's colour interpretation of each band."""
    described: tuple[str | None, ...]
    """Meaning of each band's description; None if it has none."""
    words: tuple[str, ...]
    """The descriptions."""

    @classmethod
    def of(cls, dataset: Any) -> _Named:  # noqa: ANN401
        words = tuple((text or "").strip() for text in dataset.descriptions)
        return cls(tuple(colour.name for colour in dataset.colorinterp), tuple(map(meaning, words)), words)

    @property
    def tagged(self) -> tuple[str | None, ...]:
        """The colour interpretations that name a part of the spectrum."""
        return tuple(tag if tag in _TAGS else None for tag in self.tags)

    @property
    def labels(self) -> tuple[str | None, ...]:
        """Colour interpretation, else meaning of the description, of each band."""
        return tuple(tag or meant for tag, meant in zip(self.tagged, self.described, strict=True))

    def contradicting(self, names: Sequence[str]) -> list[int]:
        """Bands whose tag and description disagree, if one of them is a colour of the model."""
        found = []
        for band, (tag, meant) in enumerate(zip(self.tags, self.described, strict=True), start=1):
            # By default GDAL tags a fourth 8-bit band as alpha: that does not contradict "nir".
            stated = tag in _TAGS or (tag == "alpha" and meant != NIR)
            if stated and meant is not None and tag != meant and {tag, meant} & {*names}:
                found.append(band)
        return found

    @property
    def alpha(self) -> int | None:
        """The last band that is tagged alpha and not described as near infrared."""
        found = [b for b, tag in enumerate(self.tags, start=1) if tag == "alpha" and self.described[b - 1] != NIR]
        return found[-1] if found else None


def meaning(description: str) -> str | None:
    """Meaning of a band's description: red, green, blue, nir, or other; None if unknown."""
    text = description.strip().lower()
    if text in _SHORT:
        return _SHORT[text]
    if _BEYOND.search(text):
        return OTHER
    plain, found = _NEAR_INFRARED.subn(" ", text)
    words = set(re.split(r"[\W_]+", plain))
    colours = {name for name in ("red", "green", "blue") if name in words} | ({NIR} if found else set())
    if len(colours) == 1:
        return colours.pop()
    if colours:
        return None
    return _SENTINEL.get(re.split(r"[\W_]", text)[0])


def _places(labels: Sequence[str | None], names: Sequence[str], words: Sequence[str]) -> list[int | None]:
    """The band for each name, if there is exactly one, or one whose description equals the name."""
    places: list[int | None] = []
    for name in names:
        found = [band for band, label in enumerate(labels, start=1) if label == name]
        exact = [band for band in found if words[band - 1].lower() == name]
        places.append(found[0] if len(found) == 1 else exact[0] if len(exact) == 1 else None)
    return places


@dataclass(frozen=True)
class _Found:
    """The model's bands in one file, as far as its band names define them."""

    read: tuple[int, ...] | None
    """The bands; None if the user must name them."""
    note: str = ""
    """How they were found, if worth a note."""
    problem: str = ""
    """Why the user must name them."""
    offers: tuple[tuple[tuple[int, ...], str], ...] = ()
    """Suggested bands, each with its reason."""
    draft: str = ""
    """The bands as far as they are known, with names in the other places."""


def _found(dataset: Any, names: tuple[str, ...]) -> _Found:  # noqa: ANN401
    """Find the model's bands from a file's band names."""
    if dataset.count < len(names):
        problem = f"has {_count(dataset.count)}, but the model needs {len(names)}: {', '.join(names)}"
        grey = ((1,) * len(names), "uses one band three times")
        return _Found(None, problem=problem, offers=(grey,))
    named = _Named.of(dataset)
    wrong = named.contradicting(names)
    if wrong:
        return _contradiction(named, names, wrong)
    places = _places(named.labels, names, named.words)
    if None not in places:
        by_words = any(named.tagged[b - 1] is None for b in places if b)
        return _Found(tuple(b for b in places if b), _by_description(named, names, places) if by_words else "")
    known = [label for label in named.labels[: len(names)] if label is not None]
    if known or any(name in named.labels for name in names):
        return _partial(named, names, places)
    offers = _by_number(named, names)
    if offers:
        problem = f"bands are called {_list(named.words)}, and satellites number colours differently"
        return _Found(None, problem=problem, offers=offers)
    first = tuple(range(1, len(names) + 1))
    return _Found(first, f"nothing says which bands are {_list(names)}: {_list(first)} are taken (--bands)")


def _by_number(named: _Named, names: tuple[str, ...]) -> tuple[tuple[tuple[int, ...], str], ...]:
    """Possible meanings of bands called B4, B3, B2."""
    numbers = [match[1] if (match := _NUMBERED.fullmatch(words.lower())) else "" for words in named.words]
    offers = []
    for colours, satellite in _BY_NUMBER:
        places = _places([colours.get(number) for number in numbers], names, named.words)
        if None not in places:
            offers.append((tuple(b for b in places if b), f"if they are {satellite}"))
    return tuple(offers)


def _contradiction(named: _Named, names: tuple[str, ...], wrong: list[int]) -> _Found:
    tags = _list([named.tags[b - 1] for b in wrong])
    words = _list([repr(named.words[b - 1]) for b in wrong])
    offers = []
    for labels, why in ((named.described, "as described"), (named.tagged, "as tagged")):
        places = _places(labels, names, named.words)
        if None not in places:
            offers.append((tuple(b for b in places if b), why))
    plural = "s" * (len(wrong) > 1)
    problem = f"band{plural} {_list(wrong)}: colour tag{plural} {tags}, but description{plural} {words}"
    return _Found(None, problem=problem, offers=tuple(offers))


def _partial(named: _Named, names: tuple[str, ...], places: list[int | None]) -> _Found:
    said = [f"band {b} is {label}" for b, label in enumerate(named.labels, start=1) if label not in (None, OTHER)]
    said += [f"band {b} is {named.words[b - 1]!r}" for b, label in enumerate(named.labels, 1) if label == OTHER]
    missing = [name for name, place in zip(names, places, strict=True) if place is None]
    free = [b for b, label in enumerate(named.labels, start=1) if label is None and named.tags[b - 1] != "alpha"]
    offers = []
    if len(free) == len(missing) == 1:
        guess = tuple(place or free[0] for place in places)
        offers = [(guess, f"if band {free[0]} is {missing[0]}")]
    draft = ",".join(str(place or name.upper()) for name, place in zip(names, places, strict=True))
    problem = f"its names do not say which band is {_list(missing)} ({', '.join(said)})"
    return _Found(None, problem=problem, offers=tuple(offers), draft=draft)


def _by_description(named: _Named, names: tuple[str, ...], places: Sequence[int | None]) -> str:
    bands = [b for b in places if b]
    words = _list([repr(named.words[b - 1]) for b in bands])
    return f"{_list(names)} are bands {_list(bands)}, by their descriptions {words}"


def choose_bands(files: Sequence[tuple[Path, Any]], config: PairConfig, names: tuple[str, ...]) -> list[Bands]:
    """The bands to read of both files: the requested ones, else those named as in the contract, else the first.

    Args:
        files: Path and open dataset of each date.
        config: The options.
        names: Bands of the contract, in order.

    Raises:
        DataError: A file has too few bands; its names contradict each other, or name only some of the bands; or a
            band to read is a palette, or an ink.
        UsageError: The number of bands differs from the model's, or a number is below 1.
    """
    for asked in (config.bands, config.after_bands):
        _check_numbers(asked, names)
    asked_for = config.bands, config.after_bands or config.bands
    found = []
    for asked, (path, dataset) in zip(asked_for, files, strict=True):
        with gdal_errors(path):
            _check_colours(path, dataset, asked or tuple(range(1, len(names) + 1)))
            found.append(_found(dataset, names) if asked is None else _Found(asked))
    for i, (path, dataset) in enumerate(files):
        if found[i].read is None:
            raise DataError(found[i].problem, path=path, remedy=_remedy(found, i))
        if max(found[i].read or ()) > dataset.count:
            problem = f"has {_count(dataset.count)}, but bands {_list(found[i].read or ())} are requested"
            remedy = "name bands that it has with --bands; 3,2,1/1,2,3 are those of before and of after"
            raise DataError(problem, path=path, remedy=remedy)
    nirs = _choose_nir(files, config, names, [each.read or () for each in found])
    return [
        _bands(dataset, each, *nir, names, asked=asked is not None)
        for (_, dataset), each, nir, asked in zip(files, found, nirs, asked_for, strict=True)
    ]


def _check_numbers(asked: tuple[int, ...] | None, names: tuple[str, ...]) -> None:
    if asked is None:
        return
    meant = f"--bands {','.join(map(str, asked))}"
    if min(asked, default=0) < 1:
        raise UsageError(meant, remedy="bands count from 1")
    if len(asked) != len(names):
        raise UsageError(meant, remedy=f"name {len(names)} bands: {', '.join(names)}")


def _check_colours(path: Path, dataset: Any, read: tuple[int, ...]) -> None:  # noqa: ANN401
    """Refuse pixels that are not measured light: palette indices, and inks.

    Raises:
        DataError: The pixels are palette indices or inks.
    """
    tags = {band: dataset.colorinterp[band - 1].name for band in read if band <= dataset.count}
    for band, tag in tags.items():
        if tag == "palette":
            remedy = f"make an RGB file of it: gdal_translate -expand rgb '{path}' OUT.tif"
            raise DataError(f"band {band} contains palette indices", path=path, remedy=remedy)
    if dataset.tags(ns="IMAGE_STRUCTURE").get("SOURCE_COLOR_SPACE") == "CMYK":
        remedy = f"make an RGB file of it: gdal_translate -b 1 -b 2 -b 3 -co PHOTOMETRIC=RGB '{path}' OUT.tif"
        raise DataError("contains inks (CMYK)", path=path, remedy=remedy)
    if _NO_LIGHT & {*tags.values()}:
        remedy = "export it as RGB from the program that made it, or name other bands with --bands"
        problem = f"bands {_list([*tags])} are {_list([*tags.values()])}, which are not colours of light"
        raise DataError(problem, path=path, remedy=remedy)


def _remedy(found: list[_Found], at: int) -> str:
    """The ``--bands`` that would work: for both files, if one list is not valid for both."""
    own, other = found[at], found[1 - at]
    lists = []
    for offer, why in own.offers:
        alike = [bands for bands, by in other.offers if by == why] + [bands for bands, _ in other.offers]
        meant = ",".join(map(str, other.read or (alike[0] if alike else offer)))
        lists.append(f"--bands {_flag(at, ','.join(map(str, offer)), meant)} ({why})")
    if lists:
        return "choose one: " + " or ".join(lists)
    flag = _flag(at, own.draft, ",".join(map(str, other.read)) if other.read else own.draft)
    return f"name them, replacing names by numbers: --bands {flag}"


def _flag(at: int, own: str, other: str) -> str:
    """``--bands`` for both dates, where ``own`` is the list of date ``at``."""
    if own == other:
        return own
    return f"{own}/{other}" if at == 0 else f"{other}/{own}"


def _choose_nir(
    files: Sequence[tuple[Path, Any]], config: PairConfig, names: tuple[str, ...], read: list[tuple[int, ...]]
) -> list[tuple[int | None, str]]:
    """Near-infrared band of each file, and a note: the requested bands, else bands so named in both files.

    Raises:
        DataError: A file has no such band.
        UsageError: It is also read as another colour.
    """
    asked = config.nir, config.nir if config.after_nir is None else config.after_nir
    if asked == (None, None):
        return _named_nir([_Named.of(dataset) for _, dataset in files], names, read)
    for (path, dataset), band, taken in zip(files, asked, read, strict=True):
        assert band is not None, "a config has --nir of both dates, or of none"
        if band > dataset.count:
            problem = f"has {_count(dataset.count)}, but --nir {band} is requested"
            raise DataError(problem, path=path, remedy="name an existing band; 4/5 is band 4 before and 5 after")
        if band in taken:
            meant = f"--nir {band} is also read as {names[taken.index(band)]}"
            raise UsageError(meant, remedy="name another band, or leave it out")
    return [(None, "")] * 2 if 0 in asked else [(band, "") for band in asked]


def _named_nir(
    named: list[_Named], names: tuple[str, ...], read: list[tuple[int, ...]]
) -> list[tuple[int | None, str]]:
    """The first band named near infrared in each file, if both have one and do not read it as another colour."""
    found = [next((b for b, label in enumerate(each.labels, start=1) if label == NIR), None) for each in named]
    if NIR in names or "red" not in names or found == [None, None]:
        return [(None, "")] * 2
    if None in found:
        return [(None, f"band {b} is near infrared, and the other date names none" if b else "") for b in found]
    meant = [f"band {b} is near infrared by its name" for b in found]
    if any(band in taken for band, taken in zip(found, read, strict=True)):
        return [
            (None, f"{words}, and read as another colour" if band in taken else "")
            for band, words, taken in zip(found, meant, read, strict=True)
        ]
    return [(b, f"{words}: read for ndvi_change") for b, words in zip(found, meant, strict=True)]


def _bands(
    dataset: Any,  # noqa: ANN401
    found: _Found,
    nir: int | None,
    meant: str,
    names: tuple[str, ...],
    *,
    asked: bool,
) -> Bands:
    """Combine one file's bands and notes."""
    named, read = _Named.of(dataset), found.read or ()
    alpha = named.alpha if named.alpha not in (*read, nir) else None
    notes = (*_notes(named, found, read, names, asked=asked), meant)
    return Bands(read, nir, alpha, tuple(note for note in notes if note))


def _notes(
    named: _Named, found: _Found, read: tuple[int, ...], names: tuple[str, ...], *, asked: bool
) -> Iterator[str]:
    if found.note:
        yield found.note
    if asked and not named.contradicting(names):
        labels = [named.labels[band - 1] for band in read]
        if any(label not in (None, name) for label, name in zip(labels, names, strict=True)):
            shown = _list([label or "unnamed" for label in labels])
            yield f"--bands takes {_list(read)} as {_list(names)}, and the file calls them {shown}"
    for band, tag in enumerate(named.tags, start=1):
        if tag == "alpha" and named.described[band - 1] == NIR:
            yield f"band {band} is tagged alpha and described as near infrared: it hides nothing"


def band_notes(notes: Mapping[str, Sequence[str]]) -> list[str]:
    """The notes of both dates, each preceded by its date or dates; a note on both is given once."""
    meant = dict.fromkeys(note for each in notes.values() for note in each)
    return [f"{' and '.join(name for name, own in notes.items() if note in own)}: {note}" for note in meant]


def _list(items: Sequence[object]) -> str:
    return ", ".join(map(str, items))


def _count(bands: int) -> str:
    return f"{bands} band{'s' * (bands > 1)}"
