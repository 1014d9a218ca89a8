"""The `tito` command. It stands outside the package, so that `tito export --all` can write a damaged one again."""
import subprocess
import sys
from pathlib import Path

EXPORT = "from nbdev.doclinks import nbdev_export as export; export()"
HELP = "from tinytorch.tito.cli import main; main()"


def main():
    "Run `tito`; if the package is damaged, say so, or write it again where that is asked for."
    if not __debug__:
        sys.exit("tito: Python leaves assertions out, so that no test would test anything. "
                 "Unset PYTHONOPTIMIZE, and start it without -O.")
    try:
        try:
            from tinytorch.tito.cli import main as tito
        except (SystemExit, KeyboardInterrupt) as error:      # a damaged module may raise anything
            raise ImportError(f"a module raised {type(error).__name__}") from error
        tito()
    except ModuleNotFoundError as error:
        damaged(error) if (error.name or "").startswith("tinytorch.") else sys.exit(missing(error))
    except Exception as error:
        damaged(error)


def missing(error):
    "Return what to install for a package that `tito` lacks."
    here = Path(__file__).with_name("settings.ini").exists()
    what = '-e ".[tito]"' if here else "'tinytorch-losses[tito]'"
    return f"tito: {error.name} is not installed; run: pip install {what}"


def damaged(error):
    "Export all notebooks, if that is the command; else say that it would help."
    why = f"tito ended with {type(error).__name__}: {error}."
    if sys.argv[1:] != ["export", "--all"]:
        sys.exit(f"{why} If files of the package are damaged, this writes them again: tito export --all")
    done = subprocess.run([sys.executable, "-c", EXPORT], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{why} The notebooks cannot be exported either: {done.stderr.strip().splitlines()[-1]}")
    if subprocess.run([sys.executable, "-c", HELP, "--help"], capture_output=True).returncode:
        sys.exit(f"{why} That file comes from no notebook here. Copy the folder tinytorch again from the course, "
                 "or, if you have committed it: git checkout tinytorch")
    print(f"{why} The package is written again from the notebooks.")


if __name__ == "__main__":
    main()
