"""A `MatchTable` as a file, kept beside the report so that versions can be compared without looking at pictures again."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np

from apps.training.engine.matches import IOU_THRESHOLDS, MatchTable


class TableDamagedError(Exception):
    """A stored table that is not one."""


def encode_table(table: MatchTable) -> bytes:
    out = io.BytesIO()
    np.savez_compressed(
        out,
        labels=np.frombuffer(json.dumps(list(table.labels)).encode(), np.uint8),
        picture=table.picture.astype(np.int32),
        label=table.label.astype(np.int16),
        score=table.score.astype(np.float32),
        is_match=np.packbits(table.is_match, axis=1),
        truths=table.truths.astype(np.int32),
    )
    return out.getvalue()


def decode_table(content: bytes) -> MatchTable:
    """Raises `TableDamagedError`."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            packed = stored["is_match"].reshape(len(stored["picture"]), -1)
            table = MatchTable(
                labels=tuple(json.loads(stored["labels"].tobytes())),
                picture=stored["picture"].astype(np.int64),
                label=stored["label"].astype(np.int64),
                score=stored["score"].astype(np.float32),
                is_match=np.unpackbits(packed, axis=1, count=len(IOU_THRESHOLDS)).astype(np.bool_),
                truths=stored["truths"].astype(np.int64),
            )
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise TableDamagedError(f"the table of matches cannot be read: {error}") from error
    size, label_count = len(table.score), len(table.labels)
    if (
        {len(table.picture), len(table.label), len(table.is_match)} != {size}
        or table.truths.shape[1:] != (label_count,)
        or (size and not 0 <= table.picture.min() <= table.picture.max() < table.pictures)
        or (size and not 0 <= table.label.min() <= table.label.max() < label_count)
    ):
        raise TableDamagedError("the table of matches does not fit itself")
    return table
