"""`python -m mmutils.report`: renders the report again from the records there are; status 1 where a part is missing."""

import argparse
import sys
from pathlib import Path

from mmutils.report import start_processes

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m mmutils.report", description=__doc__.partition(": ")[2])
    parser.add_argument("--out", metavar="DIR", help="with runs/: a report of these alone (default: report/)")
    parser.add_argument("--profile", default="report", help="named in the command that a missing section prints")
    options = parser.parse_args()
    if options.out is not None and not Path(options.out, "runs").is_dir():
        parser.error(f"--out {options.out}: there is no folder runs in it; give the folder that reproduce was given")
    start_processes()
    from mmutils.report.rendering import render

    problems = []
    print(render(options.out, options.profile, problems, alone=options.out is not None))
    sys.exit("\n".join(f"cannot be shown: {problem}" for problem in problems) or None)
