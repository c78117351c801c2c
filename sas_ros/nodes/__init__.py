"""Thin rclpy nodes: the only part of sas_ros that knows ROS."""
