"""`python -m mmutils.data`: what is done once with a data set."""

import argparse
import sys

from mmutils.data.tools import check, download


def main(arguments: list[str] | None = None) -> int:
    """Run a command; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m mmutils.data", description=__doc__.split("`: ")[1])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("check", help=check.__doc__.splitlines()[0])
    command.add_argument("data", help="data set: a module of mmutils/data")
    command.add_argument("--root", help="its folder or archive; none for built-in data")
    note = "of the data set, as test=test_unseen"
    command.add_argument("--option", action="append", default=[], metavar="NAME=VALUE", help=note)
    command.set_defaults(main=check.main)
    command = commands.add_parser("get", help=download.__doc__.splitlines()[0])
    command.add_argument("data", help=f"data set: {', '.join(download.ADDRESSES)}")
    command.add_argument("--root", required=True, metavar="DIR", help="folder to fetch into and to unpack in")
    command.add_argument("--url", action="append", help="another address, instead of the known ones; may be repeated")
    command.add_argument("--sha256", action="append", default=[], metavar="FILE=HEX", help="of a file; may be repeated")
    command.set_defaults(main=download.main)
    options = parser.parse_args(arguments)
    return options.main(options)


if __name__ == "__main__":
    sys.exit(main())
