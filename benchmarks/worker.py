"""Run one measurement: `worker.py SIDE TASK ARGUMENTS` prints the result as a line of JSON."""

import importlib
import json
import sys

if __name__ == "__main__":
    side, task, arguments = sys.argv[1:]
    result = getattr(importlib.import_module(f"sides.{side}"), task)(**json.loads(arguments))
    print(json.dumps(result))
