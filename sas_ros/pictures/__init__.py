"""Pictures of clouds with numpy alone: a view, light, boxes, a legend, and PNG files."""

from sas_ros.pictures.palette import label_colors
from sas_ros.pictures.png import encode_png, write_png
from sas_ros.pictures.render import Box, render_cloud

__all__ = ["Box", "encode_png", "label_colors", "render_cloud", "write_png"]
