"""`python -m mmutils.data`: what is done once with a data set."""

import argparse
import os
import sys

from mmutils.data.tools import check, download


def main(arguments: list[str] | None = None) -> int:
    """Run a command; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m mmutils.data", description=__doc__.split("`: ")[1])
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, module in (("check", check), ("get", download)):
        command = commands.add_parser(name, help=module.__doc__.splitlines()[0])
        module.add_arguments(command)
        command.set_defaults(main=module.main)
    options = parser.parse_args(arguments)
    try:
        status = options.main(options)
        sys.stdout.flush()
    except BrokenPipeError:  # `| head` has read enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the flush when Python ends
        status = 1
    return status


if __name__ == "__main__":
    sys.exit(main())
