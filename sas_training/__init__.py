"""The offline half of SAS: scenes, teachers, fusion, distillation, evaluation. Knows no ROS."""
