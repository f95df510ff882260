"""The production model on files and folders, from a terminal."""

import csv
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError, ProgrammingError, connection
from tqdm import tqdm

from apps.observations.models import Label, Survey
from apps.observations.numbering import reading_order
from apps.observations.services.exports import csv_cell
from apps.observations.services.intake import picture_limits, refusal_message
from apps.training.engine.pictures import PictureError
from apps.training.engine.types import DetectedBoxes
from apps.training.inference import ModelUnavailableError, production_detector
from apps.training.models import ModelVersion

# mAP integrates over all confidences: boxes cut off at a survey's threshold would cost the model recall it has.
EVALUATION_CONFIDENCE = 0.01
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".heic", ".heif"}


class Command(BaseCommand):
    help = "Find the animals on pictures with the survey's production model; no server needed."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "paths", nargs="+", type=Path, metavar="PATH", help="pictures or folders of pictures"
        )
        parser.add_argument(
            "--survey", default="springtails", help="short name of the survey (default: springtails)"
        )
        parser.add_argument("--format", choices=("json", "csv", "coco"), default="json")
        parser.add_argument("--output", type=Path, help="write there instead of to the terminal")
        parser.add_argument(
            "--confidence",
            type=float,
            help="lowest confidence kept (default: the survey's; for coco 0.01, as evaluators want every box)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with _database():
                self.detect(options)
        except (OperationalError, ProgrammingError) as error:
            raise CommandError(
                "The database cannot be used: run `make run` once, or set DATABASE_URL to one that is prepared."
                f"\n{error}"
            ) from error

    def detect(self, options: dict[str, Any]) -> None:
        survey = Survey.objects.filter(slug=options["survey"]).select_related("registered_model").first()
        if survey is None:
            known = (
                ", ".join(Survey.objects.values_list("slug", flat=True)) or "none yet: `make run` creates one"
            )
            raise CommandError(f"There is no survey {options['survey']!r}. Known: {known}.")
        confidence = _confidence(options, survey)
        paths = list(_pictures(options["paths"]))
        if survey.registered_model is None:
            raise CommandError(f"The survey {survey.slug} has no model yet.")
        try:
            in_production = production_detector(survey.registered_model)
        except ModelUnavailableError as error:
            raise CommandError(f"The model of {survey.slug} cannot be used: {error}") from error
        if in_production is None:
            raise CommandError(f"The survey {survey.slug} has no model in production yet.")
        version, detector = in_production
        results = detector.detect_files(
            iter(paths), confidence=confidence, object_size_px=survey.object_size_px, limits=picture_limits()
        )
        found: list[tuple[Path, DetectedBoxes]] = []
        failed = 0
        for path, result in zip(
            paths, tqdm(results, total=len(paths), unit="picture", file=sys.stderr), strict=True
        ):
            if isinstance(result, PictureError):
                failed += 1
                self.stderr.write(f"{path}: {refusal_message(result.code, result.params)}")
            else:
                found.append((path, result))
        write = {"json": _write_json, "csv": _write_csv, "coco": _write_coco}[options["format"]]
        if options["output"]:
            with options["output"].open("w", encoding="utf-8", newline="") as file:
                write(file, found, version, survey)
        else:
            write(self.stdout, found, version, survey)  # type: ignore[arg-type]
        if failed:
            raise CommandError(f"{failed} of {len(paths)} pictures could not be read.")


def _confidence(options: dict[str, Any], survey: Survey) -> float:
    stated: float | None = options["confidence"]
    if stated is None:
        return EVALUATION_CONFIDENCE if options["format"] == "coco" else survey.confidence_threshold
    if not 0 < stated < 1:
        raise CommandError("--confidence must lie between 0 and 1.")
    return stated


@contextmanager
def _database() -> Iterator[None]:
    """Have the checkout's private database run meanwhile, if that is the one in use and it does not run already."""
    services, state = settings.BASE_DIR / "bin" / "services", settings.STATE_DIR
    is_private = (
        not os.environ.get("DATABASE_URL") and (state / "services.json").exists() and services.exists()
    )
    try:
        connection.ensure_connection()
    except OperationalError:
        if not is_private:
            raise
    else:
        yield
        return
    with (state / "in-use").open("a") as users:
        fcntl.flock(users, fcntl.LOCK_SH)  # others who end meanwhile do not stop it under us
        # Output of the command is for its results.
        subprocess.run([sys.executable, services, "acquire"], check=False, stdout=sys.stderr)
        try:
            yield
        finally:
            connection.close()
            fcntl.flock(users, fcntl.LOCK_UN)
            subprocess.run([sys.executable, services, "release"], check=False, stdout=sys.stderr)


def _pictures(paths: list[Path]) -> Iterator[Path]:
    """The files named, and of folders every file that is called like a picture, in order."""
    for path in paths:
        if path.is_dir():
            inside = sorted(
                file for file in path.rglob("*") if file.suffix.lower() in _SUFFIXES and file.is_file()
            )
            if not inside:
                raise CommandError(f"{path}: no pictures in this folder.")
            yield from inside
        elif path.is_file():
            yield path
        else:
            raise CommandError(f"{path}: no such file or folder.")


def _rows(result: DetectedBoxes, version: ModelVersion) -> list[dict[str, Any]]:
    rows = []
    for number, index in enumerate(reading_order(result.boxes_xyxy_px), start=1):
        x_min, y_min, x_max, y_max = (round(float(value), 2) for value in result.boxes_xyxy_px[index])
        scores = (round(float(score), 5) for score in result.class_scores[index])
        rows.append(
            {
                "number": number,
                "label": version.labels[int(result.labels[index])],
                "confidence": round(float(result.scores[index]), 5),
                "scores": dict(zip(version.labels, scores, strict=True)),
                "box": {
                    "x": x_min,
                    "y": y_min,
                    "width": round(x_max - x_min, 2),
                    "height": round(y_max - y_min, 2),
                },
            }
        )
    return rows


def _write_json(
    file: TextIO, found: list[tuple[Path, DetectedBoxes]], version: ModelVersion, _survey: Survey
) -> None:
    photos = [
        {
            "file": str(path),
            "width": result.width_px,
            "height": result.height_px,
            "model_version": str(version),
            "detections": _rows(result, version),
        }
        for path, result in found
    ]
    file.write(json.dumps(photos, indent=2, ensure_ascii=False) + "\n")


def _write_csv(
    file: TextIO, found: list[tuple[Path, DetectedBoxes]], version: ModelVersion, _survey: Survey
) -> None:
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(["file", "number", "label", "confidence", "x", "y", "width", "height", "model_version"])
    for path, result in found:
        for row in _rows(result, version):
            box = row["box"].values()
            texts = [
                csv_cell(str(path)),
                row["number"],
                csv_cell(row["label"]),
                row["confidence"],
                *box,
                str(version),
            ]
            writer.writerow(texts)


def _write_coco(
    file: TextIO, found: list[tuple[Path, DetectedBoxes]], version: ModelVersion, survey: Survey
) -> None:
    """COCO detection format with scores; pictures without animals are listed too. Boxes are x, y, width, height in px."""
    names = {label.code: label.name for label in Label.objects.filter(survey=survey)}
    categories = [
        {"id": index, "name": code, "supercategory": "", "scientific_name": names.get(code, "")}
        for index, code in enumerate(version.labels, start=1)
    ]
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for image_id, (path, result) in enumerate(found, start=1):
        images.append(
            {"id": image_id, "file_name": str(path), "width": result.width_px, "height": result.height_px}
        )
        for row in _rows(result, version):
            box = [row["box"]["x"], row["box"]["y"], row["box"]["width"], row["box"]["height"]]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": version.labels.index(row["label"]) + 1,
                    "bbox": box,
                    "area": round(box[2] * box[3], 2),
                    "iscrowd": 0,
                    "score": row["confidence"],
                }
            )
    info = {"description": f"Podura, {survey.slug}, {version}"}
    document = {
        "info": info,
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": categories,
    }
    file.write(json.dumps(document, ensure_ascii=False) + "\n")
