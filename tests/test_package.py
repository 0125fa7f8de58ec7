"""What is installed: the packages, and the files beside their code."""

import shutil
import subprocess
import sys
import zipfile

from places import REPOSITORY


def test_a_wheel_has_the_templates_of_the_pages(tmp_path):
    source = tmp_path / "source"
    shutil.copytree(REPOSITORY / "mixmo_fast", source / "mixmo_fast", ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    code = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if "/templates/" in name}
    written = (source / "mixmo_fast" / "report" / "templates").iterdir()
    assert packed == {str(path.relative_to(source)) for path in written}
    assert "mixmo_fast/report/templates/page.css" in packed
