"""What a stranger installs: manifests, requirement lists, interfaces, workspaces, wheels."""

from __future__ import annotations

import ast
import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from pathlib import Path

import pytest

import sas_ros

ROOT = Path(__file__).resolve().parents[1]
PINNED = re.compile(
    r"^(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)(\s*;\s*python_version.*)?$"
)
REQUIREMENT_LISTS = (
    "base", "ros", "text", "demo", "test", "vision", "minkowski", "training", "constraints",
)  # fmt: skip

# Keys of the ROS distributions Humble to Lyrical, or of rosdep's own base list.
ROSDEP_KEYS = {
    "ament_cmake", "builtin_interfaces", "diagnostic_msgs", "geometry_msgs", "launch", "launch_ros",
    "lifecycle_msgs", "python3-numpy", "python3-pytest", "python3-yaml", "rcl_interfaces", "rclpy",
    "rosgraph_msgs", "rosidl_default_generators", "rosidl_default_runtime", "sensor_msgs",
    "std_msgs", "std_srvs", "visualization_msgs",
}  # fmt: skip


def manifest(folder: Path) -> ElementTree.Element:
    return ElementTree.parse(folder / "package.xml").getroot()


def dependencies(root: ElementTree.Element) -> set[str]:
    return {str(item.text) for item in root if item.tag.endswith("depend")}


def pins(name: str) -> dict[str, str]:
    """Package -> version of a requirement list; fails on a line that is not an exact pin."""
    found = {}
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    for line in text.replace("\\\n", " ").splitlines():
        line = line.split("#")[0].split("--hash")[0].strip()
        if line:
            match = PINNED.match(line)
            assert match, f"requirements/{name}.txt: {line!r} is not an exact pin"
            found[normal(match["name"])] = match["version"]
    return found


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# ------------------------------------------------------------------------------------ manifests
@pytest.mark.parametrize(
    ("folder", "name", "kind"),
    [(ROOT, "sas_ros", "ament_python"), (ROOT / "msg", "sas_msgs", "ament_cmake")],
)
def test_manifest_names_the_package_and_this_version(folder: Path, name: str, kind: str) -> None:
    root = manifest(folder)
    assert root.get("format") == "3"
    assert root.findtext("name") == name
    assert root.findtext("version") == sas_ros.__version__
    assert root.findtext("license") == "Apache-2.0"
    assert root.findtext("export/build_type") == kind


def test_manifests_name_only_keys_that_rosdep_resolves() -> None:
    assert dependencies(manifest(ROOT)) - {"sas_msgs"} <= ROSDEP_KEYS
    assert dependencies(manifest(ROOT / "msg")) <= ROSDEP_KEYS


def test_manifest_declares_every_ros_package_that_the_code_imports() -> None:
    declared = dependencies(manifest(ROOT))
    optional = {"tf2_ros", "sensor_msgs_py", "ament_index_python"}
    for path in sorted([*(ROOT / "sas_ros").rglob("*.py"), *(ROOT / "launch").glob("*.py")]):
        for imported in imports_of(path):
            if re.search(r"_msgs$|_interfaces$|^rclpy$|^launch|_ros$", imported):
                own = {"sas_ros", *optional}
                assert imported in declared | own, f"{path.name} imports {imported}"


def test_the_library_never_imports_the_training_side() -> None:
    for path in sorted((ROOT / "sas_ros").rglob("*.py")):
        assert "sas_training" not in imports_of(path), path


def test_ros_stays_in_the_node_folder_and_its_client() -> None:
    for path in sorted((ROOT / "sas_ros").rglob("*.py")):
        if "nodes" not in path.parts and path.name != "client.py":
            assert "rclpy" not in imports_of(path), path
    for path in sorted((ROOT / "sas_training").rglob("*.py")):
        if "commands" not in path.parts:
            assert "rclpy" not in imports_of(path), path


def test_the_optional_engine_has_one_door() -> None:
    door = ROOT / "sas_ros" / "sparse" / "minkowski.py"
    for folder in ("sas_ros", "sas_training"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            assert path == door or not any("Minkowski" in name for name in imports_of(path)), path
    assert "MinkowskiEngine" in imports_of(door)


def imports_of(path: Path) -> set[str]:
    """Top-level names of everything a file imports, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


# ------------------------------------------------------------------------------------ requirements
@pytest.mark.parametrize("name", REQUIREMENT_LISTS)
def test_requirements_are_exact_pins_and_name_no_host(name: str) -> None:
    assert pins(name)
    text = (ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")
    assert "://" not in text and "index-url" not in text


def test_no_package_is_pinned_twice() -> None:
    names = [name for listing in REQUIREMENT_LISTS for name in pins(listing)]
    assert sorted(names) == sorted(set(names))


def test_the_text_encoder_is_pinned_by_hash() -> None:
    text = (ROOT / "requirements" / "text.txt").read_text(encoding="utf-8")
    assert re.search(r"--hash=sha256:[0-9a-f]{64}", text)


def test_pins_fit_the_ranges_of_the_package() -> None:
    packaging = pytest.importorskip("packaging.requirements")
    pinned: dict[str, str] = {}
    for listing in REQUIREMENT_LISTS:
        pinned |= pins(listing)
    base = set()
    for line in importlib.metadata.requires("sas_ros") or []:
        requirement = packaging.Requirement(line)
        name = normal(requirement.name)
        if requirement.marker is None:
            base.add(name)
        if name in pinned:
            assert requirement.specifier.contains(pinned[name]), line
    assert base == {"numpy", "torch", "safetensors"}


def test_extras_that_messages_and_docs_name_exist() -> None:
    extras = set(importlib.metadata.metadata("sas_ros").get_all("Provides-Extra") or [])
    folders = [ROOT / name for name in ("sas_ros", "sas_training", "docs")]
    files = [
        path for folder in folders for path in folder.rglob("*") if path.suffix in (".py", ".md")
    ]
    for path in [*files, ROOT / "README.md"]:
        for named in re.findall(r"sas_ros\[([a-z,]+)\]", path.read_text(encoding="utf-8")):
            assert set(named.split(",")) <= extras, f"{path.name} names the extra {named}"


def test_console_scripts_lead_somewhere() -> None:
    scripts = {
        entry.name: entry.value
        for entry in importlib.metadata.distribution("sas_ros").entry_points
        if entry.group == "console_scripts"
    }
    assert set(scripts) == {"sas", "perception_node", "replay", "query"}
    for target in scripts.values():
        module, function = target.split(":")
        spec = importlib.util.find_spec(module)
        assert spec is not None and spec.origin is not None, f"{module} is missing"
        tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
        assert any(isinstance(n, ast.FunctionDef) and n.name == function for n in tree.body)


# ------------------------------------------------------------------------------------ interfaces
CONTRACT = {
    "msg/Instance.msg": "header id label score pose size centroid num_points indices "
    "support_height last_seen",
    "msg/InstanceArray.msg": "header instances",
    "msg/LabelInfo.msg": "UNLABELLED header version names colors",
    "msg/Timing.msg": "names ms",
    "srv/Query.srv": "text negatives threshold max_instances max_age SOURCE_LATEST SOURCE_MAP "
    "source target_frame roi_enabled roi_pose roi_size return_cloud return_indices set_target --- "
    "OK NOT_FOUND NO_DATA STALE BUSY INVALID NOT_ACTIVE status message source up viewpoint "
    "best_score alternatives alternative_scores instances cloud label_version map_version student "
    "age_s timing",
    "srv/SetVocabulary.srv": "labels --- success message version",
}


def interface_names(path: Path) -> list[str]:
    """Field and constant names in order, `---` between request and response."""
    names = []
    for line in path.read_text(encoding="utf-8").splitlines():
        declaration = line.split("#")[0].strip()
        if declaration:
            words = declaration.split()
            names.append(words[-1].split("=")[0])
    return names


def test_interfaces_are_those_that_clients_were_built_against() -> None:
    files = {str(p.relative_to(ROOT / "msg")) for p in (ROOT / "msg").glob("*/*.[ms][sr][gv]")}
    assert files == set(CONTRACT)
    listed = (ROOT / "msg" / "CMakeLists.txt").read_text(encoding="utf-8")
    for name, fields in CONTRACT.items():
        assert interface_names(ROOT / "msg" / name) == fields.split()
        assert f'"{name}"' in listed


@pytest.mark.parametrize("name", sorted(CONTRACT))
def test_every_field_says_what_it_is(name: str) -> None:
    for line in (ROOT / "msg" / name).read_text(encoding="utf-8").splitlines():
        if line.strip() not in ("", "---"):
            assert "#" in line, f"{name}: {line}"


def test_the_built_interfaces_are_those_of_the_files() -> None:
    pytest.importorskip("sas_msgs.srv")
    from sas_msgs import msg, srv

    for name, fields in CONTRACT.items():
        kind, stem = name.split("/")[0], Path(name).stem
        built = getattr(msg if kind == "msg" else srv, stem)
        parts = [built] if kind == "msg" else [built.Request, built.Response]
        for part, expected in zip(parts, fields.split(" --- "), strict=True):
            wanted = [word for word in expected.split() if not word.isupper()]
            assert list(part.get_fields_and_field_types()) == wanted, f"{name}: run make setup"


# ------------------------------------------------------------------------------------ colcon
def colcon(arguments: list[str], folder: Path, tmp_path: Path) -> list[list[str]]:
    """Run colcon and return its output as words per line."""
    program = shutil.which("colcon") or str(Path(sys.executable).with_name("colcon"))
    if not Path(program).is_file():
        pytest.skip("colcon is not installed")
    environment = {
        **os.environ,
        "COLCON_LOG_PATH": str(tmp_path / "log"),
        "COLCON_HOME": str(tmp_path / "home"),
    }
    environment.pop("COLCON_DEFAULTS_FILE", None)
    done = subprocess.run(
        [program, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return [line.split() for line in done.stdout.splitlines()]


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    (tmp_path / "workspace" / "src").mkdir(parents=True)
    (tmp_path / "workspace" / "src" / "sas_ros").symlink_to(ROOT, target_is_directory=True)
    return tmp_path / "workspace"


BASE_PATHS = ["--base-paths", "src", "src/sas_ros/msg"]


def test_a_workspace_with_the_repository_in_src_has_both_packages_in_order(
    workspace: Path, tmp_path: Path
) -> None:
    rows = colcon(["list", "--topological-order", *BASE_PATHS], workspace, tmp_path)
    assert rows == [
        ["sas_msgs", "src/sas_ros/msg", "(ros.ament_cmake)"],
        ["sas_ros", "src/sas_ros", "(ros.ament_python)"],
    ]


def test_colcon_knows_that_the_node_needs_the_messages(workspace: Path, tmp_path: Path) -> None:
    rows = colcon(["graph", *BASE_PATHS], workspace, tmp_path)
    assert rows == [["sas_msgs", "+*"], ["sas_ros", "+"]]


def test_the_repository_is_a_workspace_itself(tmp_path: Path) -> None:
    rows = colcon(["list", "--topological-order"], ROOT, tmp_path)
    assert [row[:2] for row in rows] == [["sas_msgs", "msg"], ["sas_ros", "."]]


# ------------------------------------------------------------------------------------ installation
@pytest.mark.slow
def test_a_wheel_holds_code_configuration_and_launch_files(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("sas_ros", "sas_training", "launch", "config", "resource"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "package.xml", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "--no-index", "--no-deps"]
    done = subprocess.run(
        [*build, "--no-build-isolation", "--wheel-dir", str(tmp_path), str(source)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    data = f"sas_ros-{sas_ros.__version__}.data/data/share"
    configuration = [p for p in (ROOT / "config").rglob("*") if p.is_file()]
    for path in [*configuration, *(ROOT / "launch").glob("*.launch.py"), ROOT / "package.xml"]:
        assert f"{data}/sas_ros/{path.relative_to(ROOT)}" in names
    assert f"{data}/ament_index/resource_index/packages/sas_ros" in names
    for package in ("sas_ros", "sas_training"):
        for path in (ROOT / package).rglob("*.py"):
            assert str(path.relative_to(ROOT)) in names, "a folder without __init__.py is left out"
    assert not [name for name in names if name.startswith(("test/", "scripts/", "msg/"))]


def test_executables_start_with_the_python_on_the_path() -> None:
    text = (ROOT / "setup.cfg").read_text(encoding="utf-8")
    assert "executable=/usr/bin/env python3" in text
    assert text.count("$base/lib/sas_ros") == 2


# ------------------------------------------------------------------------------------ scripts
@pytest.mark.parametrize("name", ["scripts/setup.sh", "scripts/in_venv.sh", ".ci/run"])
def test_scripts_are_executable_and_parse(name: str) -> None:
    assert os.access(ROOT / name, os.X_OK)
    assert subprocess.run(["bash", "-n", ROOT / name], capture_output=True).returncode == 0


def test_setup_without_a_profile_says_what_to_write() -> None:
    done = subprocess.run([ROOT / "scripts/setup.sh"], capture_output=True, text=True)
    assert done.returncode == 1
    assert "scripts/setup.sh demo|test" in done.stderr


# ------------------------------------------------------------------------------------ configuration
def test_the_parameter_file_holds_the_whole_table_at_its_defaults() -> None:
    yaml = pytest.importorskip("yaml")
    from sas_ros.nodes.parameters import SPECS

    text = (ROOT / "config" / "perception.yaml").read_text(encoding="utf-8")
    parameters = yaml.safe_load(text)["/**"]["ros__parameters"]
    defaults = {spec.name: spec.default for spec in SPECS}
    assert parameters == defaults
    assert {k: type(v) for k, v in parameters.items()} == {k: type(v) for k, v in defaults.items()}


def test_the_transport_profile_has_room_for_large_clouds() -> None:
    root = ElementTree.parse(ROOT / "config" / "fastdds_large_clouds.xml").getroot()
    values = {item.tag.split("}")[-1]: (item.text or "").strip() for item in root.iter()}
    assert int(values["segment_size"]) == 64 * 2**20
    assert int(values["maxMessageSize"]) == 32 * 2**20
    assert values["useBuiltinTransports"] == "false"
    kinds = {item.text for item in root.iter() if item.tag.endswith("}type")}
    assert kinds == {"SHM", "UDPv4"}
