"""The stages of the experiment about capabilities; each makes the files that are missing."""

from __future__ import annotations

from typing import Any

from sas_training.experiment.capability_files import LINKS, CapabilityRun
from sas_training.experiment.capability_links import measure_links
from sas_training.experiment.capability_result import result_of
from sas_training.experiment.capability_rows import fuse_rooms
from sas_training.experiment.capability_tables import load_measured
from sas_training.experiment.capability_truth import count_room, true_table
from sas_training.jobs import Job, Workers


def everything(about: CapabilityRun, group: str, workers: Workers) -> dict[str, Any]:
    """The whole experiment; returns the content of capability.json.

    Raises:
        SasError: the ablation or the priors are missing or damaged.
    """
    about.check()
    rooms = range(about.ablation.rooms("held_out"))
    workers.do(
        "teachers in held-out frames",
        [Job(about.truth(index), count_room, (about, index)) for index in rooms],
    )
    truth = true_table(about)
    path = about.truth(0).with_name("truth.json")
    truth.save(path)
    measure_links(about, workers)
    tables = {name: load_measured(about.table(name)) for name in LINKS}
    rows = fuse_rooms(about, path, workers)
    return result_of(about, group, truth, tables, rows)
