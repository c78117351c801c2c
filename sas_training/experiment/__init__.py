"""The ablation in the procedural world: three small 2D teachers, fusion, students, figures."""
