"""Send every hostile input to a running service:  python -m tests.hostile --url http://127.0.0.1:8000

Prints a line for each input, and ends with 1 if an answer was not as it must be, or if the service does not answer an
ordinary photo afterwards.  Memory is not measured here.
"""

import argparse
import sys

from tests.hostile.inputs import HostileInput, send_image
from tests.hostile.runner import Service, find_fault
from tests.hostile.table import INPUTS
from tests.support.images import coffee, jpeg


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.hostile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", required=True, help="of the gateway, without a path")
    parser.add_argument("--token", default="", help="bearer token, if the service asks for one")
    parser.add_argument("--only", default="", help="only inputs whose names contain this")
    arguments = parser.parse_args()
    service = Service(arguments.url, arguments.token)
    ordinary = send_image("an ordinary photo", 200, lambda: jpeg(coffee()))
    inputs = {name: one for name, one in INPUTS.items() if arguments.only in name} | {"an ordinary photo": ordinary}
    faults = sum(not report(service, name, one) for name, one in inputs.items())
    print(f"{len(inputs)} inputs, {faults} faults")
    return int(bool(faults))


def report(service: Service, name: str, given: HostileInput) -> bool:
    """Send an input and print a line; return whether the answer was as it must be."""
    answer = service.send(given)
    fault = find_fault(given, answer)
    print(f"{answer.status:3} {answer.seconds:6.2f} s  {name}{f'   FAULT {fault}' if fault else ''}", flush=True)
    return fault is None


if __name__ == "__main__":
    sys.exit(main())
