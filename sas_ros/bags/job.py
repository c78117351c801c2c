"""Labelling a whole bag: goes on where it stopped, and leaves a folder that is whole or says so.

Finished labels wait in `.work` until everything is done; `report.json` is written last.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sas_ros.bags.labelling import BagLabeller, LabelledMessage
from sas_ros.bags.messages import MessageTypes
from sas_ros.bags.output import (
    BAG_NAME,
    LabelledBag,
    labelled_bag,
    list_outputs,
    own_topics,
    ply_names,
    write_labelled_ply,
)
from sas_ros.bags.reading import CLOUD, Bag, BagMessage, DamagedBag, Topic
from sas_ros.bags.records import BadMessage, Record, load_record, save_record
from sas_ros.bags.report import JSON_NAME, BagReport
from sas_ros.clouds import read_cloud
from sas_ros.errors import SasError
from sas_ros.language.vocabulary import Vocabulary

WORK = ".work"
CLOUDS = "clouds"
_RESULT_ONLY = ("format", "copy", "not_copied")
"""Settings that change what is written, not the labels."""

Progress = Callable[[Iterator[BagMessage]], Iterable[BagMessage]]
Tell = Callable[[str], None]


@dataclass(frozen=True)
class LabelJob:
    """What to label and where to put it.

    Attributes:
        bag: open.
        topics: of point clouds.
        every: of each topic the messages 0, every, 2 every and so on.
        folder: for everything that is written.
        as_ply: a PLY for each cloud instead of a bag.
        copied: topics whose messages go into the labelled bag as well.
        settings: what the outputs depend on, plain JSON; see `BagReport`.
        vocabulary: what the labels mean.
    """

    bag: Bag
    topics: tuple[Topic, ...]
    every: int
    folder: Path
    as_ply: bool
    copied: tuple[Topic, ...]
    settings: Mapping[str, Any]
    vocabulary: Vocabulary

    def finished(self, tell: Tell, *, overwrite: bool) -> BagReport | None:
        """The report of the same job where it is done already, else None with a folder to work in.

        With `overwrite` nothing of an earlier run is used, not even of the same job.

        Raises:
            SasError: the folder holds something else, which only `overwrite` replaces.
        """
        if self.folder.exists() and not self.folder.is_dir():
            raise SasError(f"{self.folder} is a file; -o names a folder.")
        report = self.folder / JSON_NAME
        if not report.exists():
            others = [p.name for p in self.folder.iterdir()] if self.folder.is_dir() else []
            if others and WORK not in others:
                raise SasError(
                    f"{self.folder} holds other files ({', '.join(sorted(others)[:3])}); give a "
                    "folder that is empty or not there yet."
                )
            if others and overwrite:
                tell("An earlier run was interrupted; its labels are thrown away.")
                self._clear()
            elif others:
                tell("An earlier run was interrupted; its labels are used where they still fit.")
            return None
        try:
            old = BagReport.load(self.folder)
            differs = self._differs(old)
        except SasError as error:
            if not overwrite:
                raise SasError(f"{error} Give another folder, or --overwrite.") from error
            old, differs = None, "it is damaged"
        if old is not None and not differs and not overwrite:
            tell(_already(old))
            return old
        if not overwrite:
            raise SasError(
                f"{self.folder} holds the labels of another run ({differs}); give another folder, "
                "or --overwrite."
            )
        other = f"Replacing the labels of another run ({differs})."
        tell(other if differs else "Everything was labelled already; labelling it again.")
        # The report goes last: a folder without one and without `.work` is taken for a stranger's.
        self._clear()
        report.unlink()
        return None

    def _clear(self) -> None:
        """Leave an empty `.work`."""
        shutil.rmtree(self.folder / WORK, ignore_errors=True)
        (self.folder / WORK).mkdir(exist_ok=True)

    def _differs(self, old: BagReport) -> str:
        """Why an old report is not the one of this job; empty where it is."""
        keys = {*old.settings, *self.settings}
        changed = sorted(k for k in keys if old.settings.get(k) != self.settings.get(k))
        if changed:
            return f"other {', '.join(changed)}"
        before = {(r.topic, r.number): r.sha256 for r in old.records}
        now: dict[tuple[str, int], str] = {}
        damaged = ""
        try:
            for message in self._chosen():
                digest = hashlib.sha256(message.data).hexdigest()
                now[message.topic, message.number] = digest
        except DamagedBag as error:
            damaged = str(error)
        if now != before or damaged != old.damaged:
            return "the bag has other messages now"
        try:
            outputs = list_outputs(self.folder, [row["name"] for row in old.outputs])
        except OSError:
            return "a file is missing"
        return "" if outputs == list(old.outputs) else "a file was changed"

    def run(self, labeller: BagLabeller, types: MessageTypes, progress: Progress) -> BagReport:
        """Label what is not labelled yet and write everything; returns the report, not saved yet.

        Holds one cloud in memory at a time.
        """
        work = self.folder / WORK
        work.mkdir(parents=True, exist_ok=True)
        names = ply_names(self.topics) if self.as_ply else {}
        records: list[Record] = []
        outputs: list[str] = []
        damaged = ""
        try:
            for message in progress(self._chosen()):
                ply = f"{CLOUDS}/{names[message.topic]}-{message.number:06d}.ply" if names else ""
                record = self._one(message, labeller, types, ply)
                records.append(record)
                if ply and not isinstance(record, BadMessage):
                    outputs.append(ply)
        except DamagedBag as error:
            damaged = str(error)
        if not self.as_ply and any(not isinstance(record, BadMessage) for record in records):
            damaged = self._write_bag(types, work, records) or damaged
            outputs = [f"{BAG_NAME}/{p.name}" for p in (self.folder / BAG_NAME).iterdir()]
        records.sort(key=lambda record: (record.time_ns, record.topic, record.number))
        return BagReport(self.settings, records, damaged, list_outputs(self.folder, outputs))

    def finish(self, report: BagReport) -> None:
        """Save the report and remove what an older run left and what was only for going on."""
        kept = {str(row["name"]) for row in report.outputs}
        # Only names that we give ourselves.
        for path in (self.folder / CLOUDS).glob("*-[0-9]*.ply"):
            if f"{CLOUDS}/{path.name}" not in kept:
                path.unlink()
        if not any(name.startswith(f"{BAG_NAME}/") for name in kept):
            shutil.rmtree(self.folder / BAG_NAME, ignore_errors=True)
        report.save(self.folder)
        shutil.rmtree(self.folder / WORK, ignore_errors=True)

    def _chosen(self) -> Iterator[BagMessage]:
        for message in self.bag.messages(self.topics):
            if message.number % self.every == 0:
                yield message

    def _record_file(self, message: BagMessage) -> tuple[Path, str]:
        """Where a message's record is, and the key that ties it to what it depends on."""
        depends = {k: v for k, v in self.settings.items() if k not in _RESULT_ONLY}
        digest = hashlib.sha256(json.dumps(depends, sort_keys=True).encode())
        digest.update(f"{message.topic} {message.number} {message.time_ns} ".encode())
        digest.update(hashlib.sha256(message.data).digest())
        place = [topic.name for topic in self.topics].index(message.topic)
        name = f"{place}-{message.number:06d}.safetensors"
        return self.folder / WORK / name, digest.hexdigest()

    def _one(
        self, message: BagMessage, labeller: BagLabeller, types: MessageTypes, ply: str
    ) -> Record:
        path, key = self._record_file(message)
        found = load_record(path, key)
        if found is not None:
            record, labels = found
            if ply and labels is not None:
                # A file of that name may be another student's.
                cloud = read_cloud(types.read_cloud_message(message.data))
                write_labelled_ply(self.folder / ply, cloud, labels)
            return record
        result = labeller.label(message)
        if isinstance(result, LabelledMessage):
            save_record(path, key, result.figures, result.labels)
            if ply:
                write_labelled_ply(self.folder / ply, result.cloud, result.labels)
            return result.figures
        if not result.passing:
            save_record(path, key, result, None)
        return result

    def _write_bag(self, types: MessageTypes, work: Path, records: Sequence[Record]) -> str:
        """Write the labelled bag from the records; a sentence where the input is damaged."""
        damaged = ""
        clouds = {topic.key for topic in self.topics}
        copied = {topic.key: topic for topic in self.copied}
        labelled = {(r.topic, r.number) for r in records if not isinstance(r, BadMessage)}
        output = labelled_bag(
            self.folder / BAG_NAME, self.bag.storage, types, self.vocabulary, work
        )
        with output as target:
            try:
                for message in self.bag.messages([*self.topics, *self.copied]):
                    if message.key in copied:
                        target.copy(copied[message.key], message)
                    if message.key in clouds and (message.topic, message.number) in labelled:
                        self._write_labelled(target, types, message)
            except DamagedBag as error:
                damaged = str(error)
        return damaged

    def _write_labelled(
        self, target: LabelledBag, types: MessageTypes, message: BagMessage
    ) -> None:
        path, key = self._record_file(message)
        found = load_record(path, key)
        if found is None or found[1] is None:
            raise SasError(
                f"The labels of {message.topic} {message.number} are gone from {path.parent}: did "
                "somebody change that folder or the bag meanwhile? Start the same command again."
            )
        cloud = read_cloud(types.read_cloud_message(message.data))
        target.add(message.topic, message.time_ns, cloud, found[1])


def copied_topics(
    bag: Bag, topics: Sequence[Topic], types: MessageTypes
) -> tuple[tuple[Topic, ...], tuple[str, ...]]:
    """What of a bag can be copied beside the labels of `topics`, and a sentence for all else.

    Names that the labelled bag uses itself are left out: no topic may hold old labels and new.
    """
    chosen, sentences = [], []
    own = own_topics(topics)
    for topic in bag.topics:
        if topic.name in own:
            reason = "the labels of this run are written under that name."
        elif not types.knows(topic.message_type):
            reason = f"its type {topic.message_type} is not known."
        elif topic.digest and topic.digest != types.hash_of(topic.message_type):
            reason = f"its {topic.message_type} has another definition."
        else:
            chosen.append(topic)
            continue
        sentences.append(f"{topic.name} is not copied: {reason}")
    return tuple(chosen), tuple(sentences)


def _already(old: BagReport) -> str:
    """What is said of a job that is done."""
    bad = f" and {len(old.bad)} could not be" if old.bad else ""
    again = (
        "; some of them may be in another attempt (--overwrite)"
        if any(message.passing for message in old.bad)
        else ""
    )
    return f"{len(old.clouds)} messages were labelled already{bad}{again}; nothing was done."


def check_definition(topics: Iterable[Topic], types: MessageTypes) -> None:
    """Raises SasError where a bag states another definition of PointCloud2 than ROS 2's."""
    for topic in topics:
        if topic.digest and topic.digest != types.hash_of(CLOUD):
            raise SasError(
                f"{topic.name} is called {CLOUD} and has another definition (type hash "
                f"{topic.digest[:20]}), so its messages cannot be read."
            )
