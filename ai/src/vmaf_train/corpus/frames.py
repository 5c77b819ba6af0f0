"""Frame rows as columns: from frames.jsonl, frames.parquet and the shards of frames/.

    lines or parquet --blocks--> Frames, Frames, ...  --joined--> Frames --digest--> sha256

No frame ever becomes a dict, so that ten thousand cells are read in seconds. A cell's frames are
told by its key and its id: one picture under two names has one key. Where two files hold frames of
one cell the later one counts: shards by number, then frames.jsonl.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import msgspec
import numpy as np
from numpy.typing import NDArray

from vmaf_train.contract import FEATURES
from vmaf_train.corpus.digests import canonical_value, counts
from vmaf_train.corpus.rows import FRAMES, PACKED, SHARDS, Row, Score, bad_line, parse
from vmaf_train.errors import DatasetError

if TYPE_CHECKING:
    import pyarrow

Floats = NDArray[np.float64]
Codes = NDArray[np.int32]

BLOCK_BYTES = 8 << 20
_SLICE = 1 << 14
_LEAST_PLAIN, _MOST_PLAIN = 1e-4, 1e10
"""Between these sizes `repr` and pyarrow both write a number without an exponent."""


class FrameRow(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One line of frames.jsonl: a decoded frame of one cell. `vmaf` is clipped to 0..100."""

    key: str
    cell: str | None = None
    src: str | None = None
    encoder: str | None = None
    preset: str | None = None
    crf: int | float | None = None
    frame_index: Annotated[int, msgspec.Meta(ge=0, lt=1 << 31)]
    vmaf: Score
    vmaf_unclipped: float | None = None
    adm2: float
    vif_scale0: float
    vif_scale1: float
    vif_scale2: float
    vif_scale3: float
    motion2: float


class FurtherRow(FrameRow, frozen=True, kw_only=True, gc=False):
    """A frame row with the columns of metrics beside VMAF; docs/rows.md says what they are. None:
    no error at all, or not measured.
    """

    neg: float | None = None
    xpsnr: float | None = None
    xpsnr_y: float | None = None
    xpsnr_u: float | None = None
    xpsnr_v: float | None = None
    psnr: float | None = None
    psnr_y: float | None = None
    psnr_cb: float | None = None
    psnr_cr: float | None = None
    ssim: float | None = None
    ms_ssim: float | None = None
    cambi: float | None = None
    ciede2000: float | None = None


class _OnlyKnown(FrameRow, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """A frame row without further fields, such as the full feature set's: read at once."""


class _OnlyFurther(FurtherRow, frozen=True, kw_only=True, gc=False, forbid_unknown_fields=True):
    """A frame row with the columns of further metrics and no others: read at once."""


_KNOWN = FrameRow.__struct_fields__
_TYPED = FurtherRow.__struct_fields__
_FURTHER = _TYPED[len(_KNOWN) :]
_TEXTS = ("key", "cell", "src", "encoder", "preset")
_NUMBERS = tuple(name for name in _KNOWN if name not in _TEXTS)
_LINES = msgspec.json.Decoder(_OnlyKnown)
_FURTHER_LINES = msgspec.json.Decoder(_OnlyFurther)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TextColumn:
    """A column of few different values: `values[codes[i]]` is that of frame i; (N,) codes."""

    values: tuple[Any, ...]
    codes: Codes

    def take(self, where: NDArray[np.integer] | NDArray[np.bool_]) -> TextColumn:
        """The rows `where`, by number or by mask."""
        return TextColumn(values=self.values, codes=self.codes[where])


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frames:
    """N frame rows. `numbers` are columns (N,) float64, NaN where a frame has none (`frame_index`,
    `crf`, `vmaf`, the features); `texts` the others. `order` names the columns as they were found.
    """

    numbers: Mapping[str, Floats]
    texts: Mapping[str, TextColumn]
    order: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.numbers["frame_index"])

    def take(self, where: NDArray[np.integer] | NDArray[np.bool_]) -> Frames:
        """The rows `where`, by number or by mask."""
        return Frames(
            numbers={name: column[where] for name, column in self.numbers.items()},
            texts={name: column.take(where) for name, column in self.texts.items()},
            order=self.order,
        )

    def units(self) -> tuple[list[tuple[str, str | None]], Codes]:
        """The (key, cell) pairs that are here, and the number of its pair for every frame."""
        keys, cells = self.texts["key"], self.texts["cell"]
        width = max(1, len(cells.values))
        both = keys.codes.astype(np.int64) * width + cells.codes
        found, codes = np.unique(both, return_inverse=True)
        pairs = [(keys.values[i // width], cells.values[i % width]) for i in found.tolist()]
        return pairs, codes.astype(np.int32)

    def features(self) -> Floats:
        """(N, 6) raw features in the order of the contract."""
        return np.column_stack([self.numbers[name] for name in FEATURES])


def files_of(folder: Path) -> list[Path]:
    """The files that hold frame rows of a run folder, in the order in which the later counts."""
    shards = sorted((folder / SHARDS).glob("*.parquet"))
    return [file for file in (folder / PACKED, *shards, folder / FRAMES) if file.is_file()]


def blocks(file: Path, start: int = 0) -> Iterator[Frames]:
    """The frame rows of one file, some megabytes at a time; of JSONL from the byte `start` on.

    Raises DatasetError naming a line that is not a frame row. A torn last line is passed over.
    """
    if ".parquet" in file.suffixes:  # with .tmp behind it while it is written
        yield from _parquet_blocks(file)
    else:
        yield from _line_blocks(file, start)


def _line_blocks(file: Path, start: int) -> Iterator[Frames]:
    with file.open("rb") as opened:
        first = 1 + _lines_before(opened, start)
        rest = b""
        while part := opened.read(BLOCK_BYTES):
            rest += part
            end = rest.rfind(b"\n") + 1
            if not end:
                continue
            yield from_lines(rest[:end], file, first)
            first += rest.count(b"\n", 0, end)
            rest = rest[end:]


def _lines_before(opened: BinaryIO, end: int) -> int:
    """Line ends in the first `end` bytes; the file then stands at `end`."""
    count = 0
    while opened.tell() < end:
        count += opened.read(min(BLOCK_BYTES, end - opened.tell())).count(b"\n")
    return count


def from_lines(text: bytes, file: Path, first: int = 1) -> Frames:
    """Whole lines as columns; `first` is the number of the first one, for errors. Raises as
    `blocks`.
    """
    # msgspec takes two objects on one line for two lines.
    num_lines = text.count(b"\n") + (not text.endswith(b"\n"))
    unfit = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
    with suppress(*unfit):
        rows = _LINES.decode_lines(text)
        if len(rows) == num_lines:
            return _columns(rows, ())
    with suppress(*unfit):
        further = _FURTHER_LINES.decode_lines(text)
        if len(further) == num_lines:
            return _further_columns(further)
    return _slowly(text, file, first)


def _further_columns(rows: Sequence[FurtherRow]) -> Frames:
    """Rows with the columns of further metrics; without those that none of them has."""
    base = _columns(rows, ())
    numbers = dict(base.numbers)
    for name in _FURTHER:
        values = [getattr(row, name) for row in rows]
        if any(value is not None for value in values):
            numbers[name] = np.array(values, dtype=np.float64)
    more = [name for name in _FURTHER if name in numbers]
    return Frames(numbers=numbers, texts=base.texts, order=(*base.order, *more))


def _slowly(text: bytes, file: Path, first: int) -> Frames:
    """As `from_lines`, for lines that have further fields or are damaged: one by one."""
    rows: list[FrameRow] = []
    extras: list[Row] = []
    for number, line in enumerate(text.splitlines(), start=first):
        if not line.strip():
            continue
        try:
            row = parse(line)
            rows.append(msgspec.convert({k: row[k] for k in _TYPED if k in row}, FurtherRow))
        except (ValueError, msgspec.ValidationError) as failure:
            raise bad_line(file, number, f"no frame row: {failure}".replace("`", "")) from failure
        extras.append({name: value for name, value in row.items() if name not in _KNOWN})
    return _columns(rows, extras)


def _columns(rows: Sequence[FrameRow], extras: Sequence[Row]) -> Frames:
    columns: list[tuple[Any, ...]] = list(zip(*map(msgspec.structs.astuple, rows), strict=True))
    width = len(_KNOWN)  # rows with the columns of further metrics have them after these
    of = dict(zip(_KNOWN, columns[:width] or [()] * width, strict=True))
    numbers = {name: np.array(of[name], dtype=np.float64) for name in _NUMBERS}
    texts = {name: _coded_texts(of[name]) for name in _TEXTS}
    more = dict.fromkeys(name for extra in extras for name in extra)
    for name in more:
        values = [extra.get(name) for extra in extras]
        if all(v is None or type(v) in (int, float) for v in values):
            numbers[name] = np.array(values, dtype=np.float64)
        else:
            texts[name] = _coded(values)
    return Frames(numbers=numbers, texts=texts, order=(*_KNOWN, *more))


def _coded_texts(values: Sequence[str | None]) -> TextColumn:
    """A column of texts by its different values."""
    code_of = {value: code for code, value in enumerate(dict.fromkeys(values))}
    codes = np.fromiter(map(code_of.__getitem__, values), dtype=np.int32, count=len(values))
    return TextColumn(values=tuple(code_of), codes=codes)


def _coded(values: Iterable[object]) -> TextColumn:
    """As `_coded_texts`, for any values: one that cannot be looked up goes by its JSON."""
    known: dict[object, int] = {}
    meant: list[object] = []
    codes = []
    for value in values:
        name = value if value is None or isinstance(value, str) else (canonical_value(value),)
        code = known.get(name)
        if code is None:
            code = known[name] = len(meant)
            meant.append(value)
        codes.append(code)
    return TextColumn(values=tuple(meant), codes=np.array(codes, dtype=np.int32))


def _parquet_blocks(file: Path) -> Iterator[Frames]:
    import pyarrow
    from pyarrow import parquet

    try:
        opened = parquet.ParquetFile(file, read_dictionary=list(_TEXTS))
        for group in range(opened.num_row_groups):
            yield _from_table(opened.read_row_group(group), file)
    except (pyarrow.ArrowException, OSError) as failure:
        raise _unreadable(file, failure) from failure


def units_in_shard(file: Path) -> set[tuple[str, str | None]]:
    """Key and cell of every frame of a parquet file, read without its numbers. Raises DatasetError
    for one that cannot be read.
    """
    import pyarrow
    from pyarrow import parquet

    names = ["key", "cell"]
    found: set[tuple[str, str | None]] = set()
    try:
        opened = parquet.ParquetFile(file, read_dictionary=names)
        for group in range(opened.num_row_groups):
            table = opened.read_row_group(group, columns=names)
            columns = [_different(table, name) for name in names]
            for pair in set(zip(*(codes for _, codes in columns), strict=True)):
                key, cell = (v[c] for (v, _), c in zip(columns, pair, strict=True))
                found.add((key, cell))
    except (pyarrow.ArrowException, OSError, LookupError) as failure:
        raise _unreadable(file, failure) from failure
    return found


def _different(table: pyarrow.Table, name: str) -> tuple[list[str | None], list[int]]:
    """The different values of a column, and the number of its value for every row. Not by way of
    numpy: pyarrow would import pandas for that, which takes longer than all the rest.
    """
    if name not in table.column_names:
        return [None], [0] * len(table)
    values: list[str | None] = [None]
    codes: list[int] = []
    for part in table.column(name).chunks:
        first = len(values)
        values += part.dictionary.to_pylist()
        codes += [0 if i is None else first + i for i in part.indices.to_pylist()]
    return values, codes


def _unreadable(file: Path, failure: Exception) -> DatasetError:
    return DatasetError(f"{file} is not a readable parquet file: {failure}")


def _from_table(table: pyarrow.Table, file: Path) -> Frames:
    import pyarrow

    numbers: dict[str, Floats] = {}
    texts: dict[str, TextColumn] = {}
    names = [name for name in table.column_names if not name.startswith("__index_")]
    for name in names:
        column = table.column(name)
        kind = column.type
        if pyarrow.types.is_integer(kind) or pyarrow.types.is_floating(kind):
            as_float = column.cast(pyarrow.float64(), safe=False)
            numbers[name] = as_float.to_numpy(zero_copy_only=False).astype(np.float64)
        elif pyarrow.types.is_null(kind) and name in _NUMBERS:
            numbers[name] = np.full(len(column), np.nan)
        else:
            texts[name] = _coded_arrow(column)
    frames = _with_all_columns(numbers, texts, tuple(names), len(table))
    _check_table(frames, file)
    return frames


def _coded_arrow(column: pyarrow.ChunkedArray) -> TextColumn:
    import pyarrow

    kind = column.type
    if pyarrow.types.is_dictionary(kind) and column.null_count:
        column = column.cast(kind.value_type)
    elif not (pyarrow.types.is_dictionary(kind) or pyarrow.types.is_string(kind)):
        return _coded(column.to_pylist())
    encoded = column.dictionary_encode("encode").combine_chunks()
    if isinstance(encoded, pyarrow.ChunkedArray):
        encoded = pyarrow.concat_arrays(encoded.chunks).unify_dictionaries()
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int32)
    return TextColumn(values=tuple(encoded.dictionary.to_pylist()), codes=codes)


def _with_all_columns(
    numbers: dict[str, Floats], texts: dict[str, TextColumn], order: tuple[str, ...], count: int
) -> Frames:
    """Columns that a file does not have are empty ones."""
    for name in _NUMBERS:
        if name not in numbers:
            numbers[name] = np.full(count, np.nan)
    for name in _TEXTS:
        if name not in texts:
            texts[name] = _none(count)
    return Frames(numbers=numbers, texts=texts, order=order)


def _check_table(frames: Frames, file: Path) -> None:
    """What `FrameRow` says of a line, for the columns of a table. Raises DatasetError."""
    if len(frames) and not all(isinstance(key, str) for key in frames.texts["key"].values):
        raise DatasetError(f"{file} holds frames without a key; restore the file")
    for name in ("frame_index", "vmaf", *FEATURES):
        if not np.isfinite(frames.numbers[name]).all():
            raise DatasetError(f"{file} holds frames without {name}; restore the file")
    index = frames.numbers["frame_index"]
    vmaf = frames.numbers["vmaf"]
    if len(frames) and (index.min() < 0 or (index != np.floor(index)).any()):
        raise DatasetError(f"{file} holds a frame_index that is not a count; restore the file")
    if len(frames) and not (vmaf.min() >= -1e-6 and vmaf.max() <= 100 + 1e-6):
        raise DatasetError(f"{file} holds a vmaf that is not 0..100; restore the file")


def joined(parts: Sequence[Frames]) -> Frames:
    """Several blocks as one; columns that only some have are empty in the others."""
    if len(parts) == 1:
        return parts[0]
    if not parts:
        return _columns([], ())
    order = tuple(dict.fromkeys(name for part in parts for name in part.order))
    number_names = dict.fromkeys(name for part in parts for name in part.numbers)
    text_names = dict.fromkeys(name for part in parts for name in part.texts)
    for name in set(number_names) & set(text_names):
        raise DatasetError(f"the frame rows hold {name} as a number and as something else")
    numbers = {
        name: np.concatenate([_numbers_of(part, name) for part in parts]) for name in number_names
    }
    texts = {name: _joined_texts([_texts_of(part, name) for part in parts]) for name in text_names}
    return Frames(numbers=numbers, texts=texts, order=order)


def _numbers_of(part: Frames, name: str) -> Floats:
    found = part.numbers.get(name)
    return np.full(len(part), np.nan) if found is None else found


def _texts_of(part: Frames, name: str) -> TextColumn:
    found = part.texts.get(name)
    return found or _none(len(part))


def _none(count: int) -> TextColumn:
    """A column of nothing."""
    return TextColumn(values=(None,), codes=np.zeros(count, dtype=np.int32))


def _joined_texts(parts: Sequence[TextColumn]) -> TextColumn:
    known: dict[object, int] = {}
    meant: list[object] = []
    codes = []
    for part in parts:
        place = np.empty(max(1, len(part.values)), dtype=np.int32)
        for i, value in enumerate(part.values):
            name = value if value is None or isinstance(value, str) else (canonical_value(value),)
            if name not in known:
                known[name] = len(meant)
                meant.append(value)
            place[i] = known[name]
        codes.append(place[part.codes])
    return TextColumn(values=tuple(meant), codes=np.concatenate(codes).astype(np.int32))


def read_frames(files: Sequence[Path], keys: frozenset[str] | None = None) -> Frames:
    """The frames of `files` whose key is one of `keys` (None: all), the later file's where two
    hold frames of one cell. Raises as `blocks`.
    """
    parts = []
    numbers = []
    for number, file in enumerate(files):
        for block in blocks(file):
            found = block if keys is None else block.take(_among(block, keys))
            parts.append(found)
            numbers.append(np.full(len(found), number, dtype=np.int32))
    table = joined(parts)
    if len(files) < 2 or not len(table):
        return table
    return table.take(_of_last_file(table, np.concatenate(numbers)))


def _among(block: Frames, keys: frozenset[str]) -> NDArray[np.bool_]:
    column = block.texts["key"]
    wanted = np.array([value in keys for value in column.values], dtype=bool)
    return wanted[column.codes] if len(column.values) else np.zeros(len(block), dtype=bool)


def _of_last_file(table: Frames, file_number: Codes) -> NDArray[np.bool_]:
    pairs, unit = table.units()
    last = np.zeros(len(pairs), dtype=np.int32)
    np.maximum.at(last, unit, file_number)
    found: NDArray[np.bool_] = file_number == last[unit]
    return found


def digest_of_frames(frames: Frames) -> str:
    """sha256 of the canonical rows sorted by key and frame_index, a line each: what
    `digests.digest` says of the same rows.

    Raises DatasetError for a number that is not finite.
    """
    total = hashlib.sha256()
    for text in _sorted_lines(frames):
        total.update(text)
    return total.hexdigest()


def _sorted_lines(frames: Frames) -> Iterator[bytes | memoryview]:
    """The canonical rows in order, many at a time, each with a line end."""
    keys = frames.texts["key"]
    rank = np.empty(max(1, len(keys.values)), dtype=np.int32)
    for place, code in enumerate(sorted(range(len(keys.values)), key=lambda i: keys.values[i])):
        rank[code] = place
    of_key, index = rank[keys.codes], frames.numbers["frame_index"]
    order = np.lexsort((index, of_key))
    same = (np.diff(of_key[order]) == 0) & (np.diff(index[order]) == 0)
    said = {name: _said(name, column) for name, column in frames.texts.items() if counts(name)}
    if same.any():  # frames of one key and number go by their text
        lines = _lines_of(frames, said).to_pylist()
        turn = sorted(range(len(frames)), key=lambda i: (of_key[i], index[i], lines[i]))
        yield "".join(lines[i] for i in turn).encode()
        return
    for start in range(0, len(order), _SLICE):
        yield _bytes_of(_lines_of(frames.take(order[start : start + _SLICE]), said))


def _said(name: str, column: TextColumn) -> pyarrow.Array:
    """`"name":value` for every different value of a column, None where there is none: (V,) texts of
    pyarrow.
    """
    import pyarrow

    head = _head(name)
    texts = [None if v is None else head + canonical_value(v) for v in column.values]
    return pyarrow.array(texts, pyarrow.string())


def _head(name: str) -> str:
    return json.dumps(name, ensure_ascii=False) + ":"


def _lines_of(frames: Frames, said: Mapping[str, pyarrow.Array]) -> pyarrow.Array:
    """The canonical JSON of every frame with a line end, (N,) texts of pyarrow."""
    import pyarrow
    from pyarrow import compute

    names = sorted(name for name in (*frames.numbers, *frames.texts) if counts(name))
    parts = []
    for name in names:
        if name in said:
            parts.append(said[name].take(pyarrow.array(frames.texts[name].codes)))
        else:
            parts.append(_number_texts(name, frames.numbers[name]))
    inner = compute.binary_join_element_wise(*parts, ",", null_handling="skip")
    return compute.binary_join_element_wise("{", inner, "}\n", "")


def _number_texts(name: str, values: Floats) -> pyarrow.Array:
    """`"name":value` for every value, None for NaN. Raises DatasetError for one that is infinite.

    pyarrow writes the digits that `repr` writes; where it places the point or an exponent
    otherwise, and for whole numbers beyond that, Python does it.
    """
    import pyarrow
    from pyarrow import compute

    if np.isinf(values).any():
        raise DatasetError(f"a frame's {name} is not finite")
    size = np.abs(values)
    unsigned = np.where(size == 0, 0.0, values)  # -0.0 is 0
    texts = pyarrow.array(unsigned, from_pandas=True).cast(pyarrow.string())
    odd = (size != 0) & ((size < _LEAST_PLAIN) | (size >= _MOST_PLAIN))
    if odd.any():
        own = [str(int(v)) if v.is_integer() else repr(v) for v in values[odd].tolist()]
        texts = compute.replace_with_mask(texts, pyarrow.array(odd), pyarrow.array(own))
    return compute.binary_join_element_wise(_head(name), texts, "")


def _bytes_of(texts: pyarrow.Array) -> memoryview:
    """The bytes of an array of texts, one after the other."""
    _, ends, data = texts.buffers()
    places = np.frombuffer(ends, dtype=np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return memoryview(data)[places[0] : places[-1]]


def to_rows(frames: Frames) -> Iterator[Row]:
    """Every frame as the line that frames.jsonl holds of it. `crf` and `frame_index` are whole
    numbers where they are.
    """
    whole = ("frame_index", "crf")
    columns = []
    for name in frames.order:
        if name in frames.texts:
            column = frames.texts[name]
            columns.append([column.values[code] for code in column.codes.tolist()])
        else:
            columns.append([_number(v, name in whole) for v in frames.numbers[name].tolist()])
    for values in zip(*columns, strict=True):
        yield dict(zip(frames.order, values, strict=True))


def _number(value: float, whole: bool) -> float | int | None:
    if math.isnan(value):
        return None
    return int(value) if whole and value.is_integer() else value


def to_table(frames: Frames) -> pyarrow.Table:
    """A pyarrow table of the frames, texts as dictionaries. Raises ValueError for a column that is
    neither number nor text.
    """
    import pyarrow

    columns = {}
    for name in frames.order:
        if name in frames.texts:
            columns[name] = _arrow_text(name, frames.texts[name])
        elif name == "frame_index":
            columns[name] = pyarrow.array(frames.numbers[name].astype(np.int64))
        else:
            columns[name] = pyarrow.array(frames.numbers[name], from_pandas=True)
    return pyarrow.table(columns)


def _arrow_text(name: str, column: TextColumn) -> pyarrow.Array:
    import pyarrow

    if not all(value is None or isinstance(value, str) for value in column.values):
        raise ValueError(f"the column {name} is neither a number nor a text")
    missing = np.array([value is None for value in column.values], dtype=bool)
    texts = pyarrow.array([value or "" for value in column.values], pyarrow.string())
    codes = pyarrow.array(column.codes, mask=missing[column.codes] if missing.any() else None)
    return pyarrow.DictionaryArray.from_arrays(codes, texts).cast(pyarrow.string())
