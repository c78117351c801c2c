"""Where labelled clouds go: a bag beside the report, or a PLY for each cloud."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sas_ros.bags.library import rosbags
from sas_ros.bags.messages import LABEL_INFO, MessageTypes
from sas_ros.bags.reading import CLOUD, BagMessage, Topic
from sas_ros.language.vocabulary import Vocabulary
from sas_ros.observation import Cloud
from sas_ros.point_labels import PointLabels

LABELLED_SUFFIX = "/labeled_points"
LABEL_INFO_TOPIC = "/sas/label_info"
BAG_NAME = "labelled"


def ply_names(topics: Sequence[Topic]) -> dict[str, str]:
    """Topic -> beginning of its files' names. Of a topic's name only letters and digits are kept:
    it comes from a file, and must not say where we write."""
    slugs = {t.name: re.sub(r"[^A-Za-z0-9]+", "_", t.name).strip("_")[:80] for t in topics}
    used = list(slugs.values())
    return {
        name: f"{slug}_{place}" if used.count(slug) > 1 or not slug else slug
        for place, (name, slug) in enumerate(slugs.items())
    }


def write_labelled_ply(path: Path, cloud: Cloud, labels: PointLabels) -> None:
    """A labelled PLY (docs/formats.md), written atomically."""
    from sas_ros.scans import write_ply

    write_ply(
        path,
        cloud.points + cloud.origin if cloud.origin.any() else cloud.points,
        colors=cloud.colors,
        label=labels.label,
        confidence=labels.confidence,
        instance=labels.instance,
    )


def own_topics(topics: Sequence[Topic]) -> set[str]:
    """Names that a labelled bag of these topics uses itself."""
    return {LABEL_INFO_TOPIC, *(topic.name + LABELLED_SUFFIX for topic in topics)}


class LabelledBag:
    """Writes a bag of labelled clouds and what their labels mean.

    `<topic>/labeled_points` for every topic, at the times of recording, and `/sas/label_info`,
    latched, at the time of the first cloud. Messages of topics with other names may be copied byte
    for byte.
    """

    def __init__(self, writer: Any, types: MessageTypes, vocabulary: Vocabulary) -> None:
        self._writer = writer
        self._types = types
        self._vocabulary = vocabulary
        self._own: dict[str, Any] = {}
        self._copied: dict[tuple[str, str], Any] = {}

    def add(self, topic: str, time_ns: int, cloud: Cloud, labels: PointLabels) -> None:
        """Write one labelled cloud."""
        if LABEL_INFO_TOPIC not in self._own:
            self._announce(time_ns)
        name = topic + LABELLED_SUFFIX
        if name not in self._own:
            self._own[name] = self._writer.add_connection(name, CLOUD, typestore=self._types.store)
        data = self._types.labelled_cloud(cloud, labels)
        self._writer.write(self._own[name], time_ns, data)

    def copy(self, topic: Topic, message: BagMessage) -> None:
        """Write a message of the input unchanged, under its own name."""
        if topic.key not in self._copied:
            self._copied[topic.key] = self._writer.add_connection(
                topic.name,
                topic.message_type,
                typestore=self._types.store,
                offered_qos_profiles=topic.qos,
            )
        self._writer.write(self._copied[topic.key], message.time_ns, message.data)

    def _announce(self, time_ns: int) -> None:
        qos = rosbags("interfaces")
        latched = qos.Qos(
            history=qos.QosHistory.KEEP_LAST,
            depth=1,
            reliability=qos.QosReliability.RELIABLE,
            durability=qos.QosDurability.TRANSIENT_LOCAL,
            deadline=qos.QosTime(0, 0),
            lifespan=qos.QosTime(0, 0),
            liveliness=qos.QosLiveliness.AUTOMATIC,
            liveliness_lease_duration=qos.QosTime(0, 0),
            avoid_ros_namespace_conventions=False,
        )
        connection = self._writer.add_connection(
            LABEL_INFO_TOPIC,
            LABEL_INFO,
            typestore=self._types.store,
            offered_qos_profiles=[latched],
        )
        self._own[LABEL_INFO_TOPIC] = connection
        data = self._types.label_info(self._vocabulary, time_ns)
        self._writer.write(connection, time_ns, data)


@contextmanager
def labelled_bag(
    folder: Path, storage: str, types: MessageTypes, vocabulary: Vocabulary, work: Path
) -> Iterator[LabelledBag]:
    """A bag that appears at `folder` whole, when the block succeeds, in place of an older one.

    Args:
        storage: mcap or sqlite3.
        work: folder on the same disk for what is not whole yet.
    """
    module = rosbags("rosbag2")
    unfinished, old = work / "new" / folder.name, work / "old"
    for left in (unfinished, old):
        shutil.rmtree(left, ignore_errors=True)
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    plugin = module.StoragePlugin.SQLITE3 if storage == "sqlite3" else module.StoragePlugin.MCAP
    # Version 8 is read by every ROS 2 since Humble.
    writer = module.Writer(unfinished, version=8, storage_plugin=plugin)
    if storage != "sqlite3":
        writer.set_compression(module.CompressionMode.STORAGE, module.CompressionFormat.ZSTD)
    with writer:
        yield LabelledBag(writer, types, vocabulary)
    for file in unfinished.iterdir():
        with open(file, "rb") as written:
            os.fsync(written.fileno())
    if folder.exists():
        folder.rename(old)
    unfinished.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def list_outputs(folder: Path, names: Sequence[str]) -> list[dict[str, Any]]:
    """`name`, `bytes` and `sha256` of files below `folder`."""
    rows = []
    for name in sorted(names):
        path = folder / name
        digest = hashlib.sha256()
        with open(path, "rb") as file:
            while part := file.read(2**20):
                digest.update(part)
        rows.append({"name": name, "bytes": path.stat().st_size, "sha256": digest.hexdigest()})
    return rows
