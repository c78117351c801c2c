"""A ROS 2 bag, one message at a time: a folder with metadata.yaml, a .mcap or a .db3 file."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from sas_ros.bags.library import rosbags
from sas_ros.errors import SasError

SUFFIXES = (".mcap", ".db3")
CLOUD = "sensor_msgs/msg/PointCloud2"


@dataclass(frozen=True)
class Topic:
    """A topic of a bag.

    Attributes:
        name: as recorded, with leading slash.
        message_type: such as sensor_msgs/msg/PointCloud2.
        messages: how many the bag says it holds.
        digest: the type's hash where the bag states it, else empty.
        qos: offered by its publishers, as rosbags has it.
    """

    name: str
    message_type: str
    messages: int
    digest: str = ""
    qos: tuple[Any, ...] = ()

    @property
    def key(self) -> tuple[str, str]:
        """Name and type: what tells it from all other topics of the bag."""
        return self.name, self.message_type


@dataclass(frozen=True)
class BagMessage:
    """One recorded message.

    Attributes:
        topic: its name.
        message_type: a name may be recorded with several types, which are topics of their own.
        number: counts the messages of that topic and type, from 0.
        time_ns: when it was recorded, ns since the epoch.
        data: serialised (CDR).
    """

    topic: str
    message_type: str
    number: int
    time_ns: int
    data: bytes

    @property
    def key(self) -> tuple[str, str]:
        """As `Topic.key`."""
        return self.topic, self.message_type


class DamagedBag(SasError):
    """The bag cannot be read from some message on; what came before is good."""


def is_bag(path: Path) -> bool:
    """Whether a path looks like a bag: by its suffix, or by metadata.yaml in a folder."""
    return path.suffix in SUFFIXES or (path.is_dir() and (path / "metadata.yaml").is_file())


class Bag:
    """An open bag; a context manager. Holds one chunk of the file in memory at a time.

    Raises:
        SasError: there is no bag there, or it cannot be opened; says what to do.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        if not self.path.exists():
            raise SasError(f"There is no bag at {path}.")
        if not is_bag(self.path):
            raise SasError(
                f"{path} is no bag: give a .mcap or .db3 file, or the folder with metadata.yaml. "
                "`ros2 bag reindex FOLDER` makes a metadata.yaml that is missing."
            )
        module = rosbags("rosbag2")
        try:
            self._reader: Any = module.Reader(self.path)
            self._reader.open()
        except Exception as error:  # files damaged in any way: errors of yaml, sqlite, codecs
            raise SasError(
                f"The bag {path} cannot be opened: {_sentence(error)} A recording that was cut off "
                "can often be saved with `ros2 bag reindex` or `mcap recover`."
            ) from error
        self._connections = list(self._reader.connections)

    @property
    def storage(self) -> str:
        """mcap or sqlite3."""
        files = [self.path] if self.path.is_file() else sorted(self.path.iterdir())
        return "sqlite3" if any(file.suffix == ".db3" for file in files) else "mcap"

    @property
    def start_ns(self) -> int:
        """Time of the earliest message; 0 in an empty bag."""
        return int(self._reader.start_time) if self._reader.message_count else 0

    @property
    def topics(self) -> tuple[Topic, ...]:
        """All topics by name; one that two publishers recorded is one."""
        found: dict[tuple[str, str], Topic] = {}
        for connection in self._connections:
            key = (str(connection.topic), str(connection.msgtype))
            before = found[key].messages if key in found else 0
            count = before + int(connection.msgcount)
            qos = tuple(connection.ext.offered_qos_profiles)
            found[key] = Topic(*key, count, str(connection.digest or ""), qos)
        return tuple(found[key] for key in sorted(found))

    def cloud_topics(self, chosen: Sequence[str] = ()) -> tuple[Topic, ...]:
        """The topics of point clouds, or those of them that were chosen by name.

        Raises:
            SasError: a chosen one is not there or holds no clouds, or the bag has none at all;
                names the topics there are.
        """
        clouds = {topic.name: topic for topic in self.topics if topic.message_type == CLOUD}
        there = ", ".join(f"{t.name} ({t.message_type}, {t.messages})" for t in self.topics)
        for name in chosen:
            if name not in clouds:
                raise SasError(
                    f"The bag {self.path.name} has no point clouds on {name!r}. "
                    f"Its topics: {there or 'none'}."
                )
        if not clouds:
            raise SasError(
                f"The bag {self.path.name} has no topic of type {CLOUD}. "
                f"Its topics: {there or 'none'}."
            )
        return tuple(clouds[name] for name in dict.fromkeys(chosen or sorted(clouds)))

    def messages(self, topics: Collection[Topic]) -> Iterator[BagMessage]:
        """The messages of these topics in the order of recording.

        Raises:
            DamagedBag: the file cannot be read any further.
        """
        wanted = {topic.key for topic in topics}
        chosen = [c for c in self._connections if (c.topic, c.msgtype) in wanted]
        counts: dict[tuple[str, str], int] = {}
        if not chosen:
            return
        stream = iter(self._reader.messages(chosen))
        while True:
            try:
                connection, time_ns, data = next(stream)
            except StopIteration:
                return
            except Exception as error:  # as in the constructor
                raise DamagedBag(
                    f"The bag {self.path.name} is damaged after {sum(counts.values())} messages: "
                    f"{_sentence(error)}"
                ) from error
            key = (str(connection.topic), str(connection.msgtype))
            number = counts.get(key, 0)
            counts[key] = number + 1
            yield BagMessage(*key, number, int(time_ns), bytes(data))

    def close(self) -> None:
        """Close the files."""
        self._reader.close()

    def __enter__(self) -> Bag:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split())[:200] or type(error).__name__
    return text if text.endswith(".") else f"{text}."
