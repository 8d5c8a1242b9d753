"""What pyproject.toml cannot say: `mabeam/__init__.py` is in the distribution `mabeam-agent`, on which this one depends."""

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildPy(build_py):
    """All modules of the operator but that one: no file may belong to two distributions."""

    def find_package_modules(self, package: str, package_dir: str) -> list[tuple[str, str, str]]:
        """The modules of a package, as (package, module, file)."""
        found: list[tuple[str, str, str]] = super().find_package_modules(package, package_dir)
        return [module for module in found if module[:2] != ("mabeam", "__init__")]


setup(cmdclass={"build_py": BuildPy})
