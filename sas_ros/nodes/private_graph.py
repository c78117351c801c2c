"""A ROS graph of one's own on this host: what the demo and the benchmark start their nodes in."""

from __future__ import annotations

import os
import tempfile
from collections.abc import MutableMapping

_SAFE_DOMAINS = 100  # 1 to 100: above 101 the ports may collide with those the system gives out


def use_private_graph(environment: MutableMapping[str, str]) -> None:
    """Choose a ROS domain, keep discovery on this host and logs in a temporary folder, each only
    where the user has chosen nothing."""
    environment.setdefault("ROS_DOMAIN_ID", str(1 + os.getpid() % _SAFE_DOMAINS))
    environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    if "ROS_LOG_DIR" not in environment:
        environment["ROS_LOG_DIR"] = tempfile.mkdtemp(prefix="sas-log-")
