"""Scan files -> Cloud, and labelled clouds -> PLY."""

from sas_ros.scans.ply import write_ply
from sas_ros.scans.reading import SCAN_SUFFIXES, read_scan

__all__ = ["SCAN_SUFFIXES", "read_scan", "write_ply"]
