"Installs tinytorch; every name, version and requirement comes from settings.ini."
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
config = ConfigParser(delimiters=["="])
config.read(here / "settings.ini", encoding="utf-8")
settings = config["DEFAULT"]

setup(
    name=settings["lib_name"],
    version=settings["version"],
    description=settings["description"],
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    author=settings["author"],
    author_email=settings["author_email"],
    url=settings["git_url"],
    license="Apache-2.0",
    packages=find_packages(include=["tinytorch", "tinytorch.*"]),
    package_data={"tinytorch.data": ["*.*", "differences/*"]},
    py_modules=["tinytorch_cli"],
    python_requires=f">={settings['min_python']}",
    install_requires=settings["requirements"].split(),
    extras_require={key.removesuffix("_requirements"): settings[key].split()
                    for key in settings if key.endswith("_requirements")},
    entry_points={
        "console_scripts": ["tito=tinytorch_cli:main"],
        "nbdev": [f"{settings['lib_path']}={settings['lib_path']}._modidx:d"],
    },
    zip_safe=False,
)
