"""A whole run: images, pseudo masks, teachers, table, report; every stage keeps what is there."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sas_ros import __version__
from sas_ros.errors import SasError
from sas_ros.files import atomic_write
from sas_training.capability.class_maps import Caller, ClassMap
from sas_training.capability.files import CapabilityFiles
from sas_training.capability.images import ImageSettings, about_images, make_images
from sas_training.capability.measure import LEVEL, RESAMPLES, count, table_of
from sas_training.capability.pipelines import TextToImage
from sas_training.capability.pseudo_masks import MaskSettings, RejectionRule, about_masks
from sas_training.capability.report import markdown, rejects, used, write_scores
from sas_training.capability.samples import Sample, examples_of, given, prompted, synthetic
from sas_training.capability.segmenters import Segmenter
from sas_training.capability.sheets import class_sheet, draw_table
from sas_training.capability.table import CapabilityTable, Measurement
from sas_training.teachers.images import read_image

Progress = Callable[[str, Sequence[Any]], Iterable[Any]]


@dataclass(frozen=True, eq=False)
class Plan:
    """What is to be done.

    Attributes:
        output: folder.
        vocabulary: K words that teachers may call a pixel.
        classes: of the vocabulary, to be measured.
        zero: of the vocabulary, no things to make images of: their capability is 0, as in published
            tables.
        images: m, made for each class.
        how_images, how_masks: settings.
        rejection: None: no image is left out.
        given_images: folder of images to take instead of making some.
        given_coarse, given_masks: folder of their coarse masks, or of their masks.
        batch: images at a time.
        seed: of the bootstrap.
        text: name of the text encoder and sentences of the words, for the record.
    """

    output: Path
    vocabulary: tuple[str, ...]
    classes: tuple[str, ...]
    zero: tuple[str, ...] = ()
    images: int = 50
    how_images: ImageSettings = field(default_factory=ImageSettings)
    how_masks: MaskSettings = field(default_factory=MaskSettings)
    rejection: RejectionRule | None = field(default_factory=RejectionRule)
    given_images: Path | None = None
    given_coarse: Path | None = None
    given_masks: Path | None = None
    batch: int = 4
    seed: int = 0
    text: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = [n for n in (*self.classes, *self.zero) if n not in self.vocabulary]
        if unknown or not self.classes:
            raise SasError(f"{(*unknown, '')[0]!r} is no word of the vocabulary.")
        if self.given_images is None and (self.given_coarse or self.given_masks):
            raise SasError("Given masks belong to given images; give these too.")
        if self.given_images is not None and (self.given_coarse is None) == (
            self.given_masks is None
        ):
            raise SasError("Given images need their masks, or their coarse masks; one of the two.")
        if self.images < 1 or self.batch < 1:
            raise SasError("There must be an image of each class, and a batch of one, at least.")


class NothingLeft(SasError):
    """All images were left out, so that teachers cannot be measured.

    Attributes:
        rejected: class -> reason -> images left out for it.
    """

    def __init__(self, message: str, rejected: Mapping[str, Mapping[str, int]]) -> None:
        super().__init__(message)
        self.rejected = rejected

    def __reduce__(self) -> tuple[Any, ...]:
        return NothingLeft, (str(self), self.rejected)  # from a process to another


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of it.

    Attributes:
        samples: all images, with those left out.
        made: how many images were made now.
        table: None without teachers.
    """

    samples: list[Sample]
    made: int
    table: CapabilityTable | None


def run(
    plan: Plan,
    model: TextToImage | None,
    segmenter: Segmenter | None,
    teachers: Mapping[str, Caller],
    progress: Progress = lambda title, work: work,
) -> Outcome:
    """Do everything that is not done yet, and write the report anew.

    Args:
        plan: what.
        model: makes the images; not needed where images are given.
        segmenter: None: coarse masks stay as they are.
        teachers: name -> teacher with the vectors of the vocabulary; none: pseudo masks are the
            end.
        progress: (title, work) -> the work, shown.

    Raises:
        NothingLeft: there are teachers, but no image to measure them with.
        SasError: see the stages.
    """
    files = CapabilityFiles(plan.output, plan.classes)
    made = 0
    if plan.given_images is None:
        if model is None:
            raise SasError("Making images needs a text-to-image pipeline.")
        made = make_images(
            model,
            files,
            plan.classes,
            plan.how_images,
            images=plan.images,
            batch=plan.batch,
            progress=partial(progress, "images"),
        )
    samples = _samples(plan, files, segmenter, partial(progress, "pseudo masks"))
    table = None
    scores = None
    examples = examples_of(samples, plan.classes)
    if teachers and any(examples.values()):

        def folder(teacher: str, name: str) -> Path:
            return files.said(teacher, teachers[teacher].key) / files.folder(name)

        scores = count(
            teachers,
            plan.vocabulary,
            examples,
            batch=plan.batch,
            folder=folder,
            progress=partial(progress, "teachers"),
        )
        table = table_of(
            scores,
            _measurement(plan, model, segmenter, teachers, samples),
            zero=plan.zero,
            seed=plan.seed,
        )

    _write_report(plan, files, samples, teachers, table, progress)
    write_scores(files, samples, scores)
    if table is not None:
        table.save(files.table)
    elif teachers:
        # An older table would be taken for one of these images.
        files.table.unlink(missing_ok=True)
        raise NothingLeft(
            f"All {len(samples)} images were left out, so that there is nothing to measure with; "
            f"{files.report} says why. Make more or better ones, or reject none.",
            rejects(samples),
        )
    return Outcome(samples, made, table)


def _samples(
    plan: Plan,
    files: CapabilityFiles,
    segmenter: Segmenter | None,
    progress: Callable[[Sequence[Any]], Iterable[Any]],
) -> list[Sample]:
    how, rule = plan.how_masks, plan.rejection
    if plan.given_images is None:
        return synthetic(files, plan.classes, plan.images, how, segmenter, rule, progress)
    if plan.given_masks is not None:
        return given(plan.classes, plan.given_images, plan.given_masks)
    assert plan.given_coarse is not None
    return prompted(
        files, plan.classes, plan.given_images, plan.given_coarse, how, segmenter, rule, progress
    )


def _measurement(
    plan: Plan,
    model: TextToImage | None,
    segmenter: Segmenter | None,
    teachers: Mapping[str, Caller],
    samples: Sequence[Sample],
) -> Measurement:
    """Everything that is needed to make the table again."""
    synthetic_images = plan.given_images is None and model is not None
    models = {"images": "given"}
    notes: dict[str, Any] = {"made_with": versions()}
    if synthetic_images and model is not None:
        models["images"] = f"{model.kind} {model.model}"
        notes["images"] = about_images(model, plan.how_images)
    models["masks"] = "given"
    if plan.given_masks is None:
        notes["masks"] = about_masks(plan.how_masks, segmenter)
        models["masks"] = str(notes["masks"]["segmenter"].get("model", "coarse masks"))
        notes["rejection"] = asdict(plan.rejection) if plan.rejection else None
    for name, one in teachers.items():
        models[name] = one.teacher.description.model
    counts = used(samples)
    notes |= {
        "vocabulary": list(plan.vocabulary),
        "text": dict(plan.text),
        "teachers": {
            name: {**one.teacher.description.to_json(), "look": one.look}
            for name, one in teachers.items()
        },
        "used": counts,
        "rejected": rejects(samples),
        "left_out": [name for name in plan.classes if not counts.get(name)],
        "zero": list(plan.zero),
        "bootstrap": {"seed": plan.seed, "resamples": RESAMPLES, "level": LEVEL},
    }
    return Measurement(
        prompts=(plan.how_images.template,) if synthetic_images else (),
        seeds=tuple(range(plan.images)) if synthetic_images else (),
        models=models,
        images_per_class=plan.images if synthetic_images else max(counts.values(), default=0),
        notes=notes,
    )


def versions() -> dict[str, str]:
    """Of what computes."""
    import importlib.metadata

    found = {"sas_ros": __version__}
    for name in ("torch", "diffusers", "transformers", "segment-anything"):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _write_report(
    plan: Plan,
    files: CapabilityFiles,
    samples: Sequence[Sample],
    teachers: Mapping[str, Caller],
    table: CapabilityTable | None,
    progress: Progress,
) -> None:
    """Sheets of classes, the chart and the page."""
    from sas_ros.pictures import write_png

    def call(title: str, sample: Sample) -> ClassMap:
        path = files.said(title, teachers[title].key) / files.folder(sample.of)
        return teachers[title].maps([read_image(sample.image)], [path / f"{sample.name}.png"])[0]

    said = {title: partial(call, title) for title in teachers}
    for name in progress("sheets", plan.classes):
        own = [one for one in samples if one.of == name]
        if own:
            label = plan.vocabulary.index(name)
            write_png(files.sheet(name), class_sheet(own, said, label))
    if table is not None:
        title = f"IoU of each class with its pseudo masks, lines: {table.level:.0%} intervals"
        write_png(files.chart, draw_table(table, title, plan.zero))
    facts = {
        "images": (
            f"given, {plan.given_images}"
            if plan.given_images
            else f"{plan.images} of each class, prompt {plan.how_images.template!r}, "
            f"{plan.how_images.steps} steps, guidance {plan.how_images.guidance:g}"
        ),
        "masks": (
            "given"
            if plan.given_masks
            else f"attention by the rule {plan.how_masks.rule!r}, threshold "
            f"{plan.how_masks.threshold:g}"
        ),
        "teachers": ", ".join(teachers) or "none",
        "made with": ", ".join(f"{name} {version}" for name, version in versions().items()),
    }
    if table is None and not teachers and files.table.is_file():
        facts["table"] = (
            f"{files.table.name} and {files.chart.name} are of an earlier run; this one had no "
            "teachers, and its images or masks may be others"
        )
    atomic_write(files.report, markdown(files, samples, table, facts).encode())
