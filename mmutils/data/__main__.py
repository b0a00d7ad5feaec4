"""`python -m mmutils.data`: what is done once with a data set."""

import argparse
import sys

from mmutils.data.tools import check, download


def main(arguments: list[str] | None = None) -> int:
    """Reads the command line and does it; 0 if that went well."""
    parser = argparse.ArgumentParser(prog="python -m mmutils.data", description=__doc__.split("`: ")[1])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, module in (("check", check), ("get", download)):
        command = commands.add_parser(name, help=module.__doc__.splitlines()[0])
        module.add_arguments(command)
        command.set_defaults(main=module.main)
    options = parser.parse_args(arguments)
    return options.main(options)


if __name__ == "__main__":
    sys.exit(main())
