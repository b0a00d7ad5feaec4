"""`python -m mmutils.report`: renders the report again from the records there are; status 1 where a part is missing."""

import argparse
import sys

from mmutils.report.rendering import render


def main() -> int:
    """Reads the command line and renders; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m mmutils.report", description=render.__doc__.split("\n")[0])
    parser.add_argument("--out", metavar="DIR", help="folder with runs/, where the report goes (default: report/)")
    parser.add_argument("--profile", default="demo", help="named in the command that a missing section prints")
    options = parser.parse_args()
    problems = []
    print(render(options.out, options.profile, problems))
    for problem in problems:
        print(f"cannot be shown: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
