"Installs tinytorch; every name, version and requirement comes from settings.ini."
import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent
config = ConfigParser(delimiters=["="])
config.read(here / "settings.ini", encoding="utf-8")
settings = config["DEFAULT"]
site = settings["doc_host"] + settings["doc_baseurl"]
source = f"{settings['git_url']}/blob/{settings['branch']}"
first, last = (int(settings[name].split(".")[1]) for name in ("min_python", "max_python"))


def description() -> str:
    "Return the README for the package index, where links that are relative lead nowhere."
    text = (here / "README.md").read_text(encoding="utf-8")
    text = re.sub(r"\A<!--.*?-->\s*", "", text)
    text = re.sub(r"(!\[[^\]]*\]\()(?![a-z]+:|#)", rf"\g<1>{source.replace('/blob/', '/raw/')}/", text)
    return re.sub(r"(?<!!)(\[[^\]]*\]\()(?![a-z]+:|#)", rf"\g<1>{source}/", text)


setup(
    name=settings["lib_name"],
    version=settings["version"],
    description=settings["description"],
    long_description=description(),
    long_description_content_type="text/markdown",
    author=settings["author"],
    author_email=settings["author_email"],
    url=site,
    project_urls={"Documentation": site, "Source": settings["git_url"],
                  "Issues": f"{settings['git_url']}/issues",
                  "Changes": f"{source}/CHANGELOG.md"},
    keywords=settings["keywords"].split(),
    classifiers=["Development Status :: 3 - Alpha",
                 "Intended Audience :: Education",
                 "Intended Audience :: Developers",
                 "Intended Audience :: Science/Research",
                 "Operating System :: OS Independent",
                 "Topic :: Scientific/Engineering :: Artificial Intelligence",
                 "Typing :: Typed",
                 "Programming Language :: Python :: 3 :: Only",
                 *[f"Programming Language :: Python :: 3.{n}" for n in range(first, last + 1)]],
    license="Apache-2.0",
    packages=find_packages(include=["tinytorch", "tinytorch.*"]),
    package_data={"": ["py.typed", "*.pyi"], "tinytorch.data": ["*.*", "differences/*"]},
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
