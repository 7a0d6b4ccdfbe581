# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs k6 and says every second what its users did, from the rows of CSV that k6 writes. Usage: k6_samples.py k6 run …

The time of a request is k6's http_req_duration, which begins when the connection is there.
"""

from __future__ import annotations

import csv
import subprocess
import sys

from samples import Samples

# The tags that a row needs.
TAGS = "method,name,status,error,expected_response"


def main(command: list[str]) -> int:
    samples = Samples()
    k6 = subprocess.Popen([*command, "--out=csv=-", f"--system-tags={TAGS}"], stdout=subprocess.PIPE, text=True)
    assert k6.stdout is not None
    users, second = 0, 0
    for row in csv.DictReader(k6.stdout):
        if (now := int(row["timestamp"])) > second:  # k6 writes many rows at once, some of them a little late
            if second:
                samples.say(users, second)
            second = now
        if row["metric_name"] == "vus":
            users = int(float(row["metric_value"]))
        elif row["metric_name"] == "http_req_duration":
            failure = "" if row["expected_response"] == "true" else row["error"] or f"status {row['status']}"
            samples.count(f"{row['method']} {row['name']}", float(row["metric_value"]), failure)
    samples.say(0)
    return k6.wait()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
