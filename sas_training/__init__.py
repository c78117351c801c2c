"""The offline half of SAS: scenes, teachers, fusion, distillation and evaluation. Never imports rclpy."""
