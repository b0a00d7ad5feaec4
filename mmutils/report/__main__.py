"""`python -m mmutils.report`: renders the report again from the records there are."""

import argparse

from mmutils.report import render


def main() -> None:
    """Reads the command line and renders."""
    parser = argparse.ArgumentParser(prog="python -m mmutils.report", description=render.__doc__.split("\n")[0])
    parser.add_argument("--out", metavar="DIR", help="folder with runs/, where the report goes (default: report/)")
    parser.add_argument("--profile", default="demo", help="named in the command that a missing section prints")
    options = parser.parse_args()
    print(render(options.out, options.profile))


if __name__ == "__main__":
    main()
