"""Prints the environment of the tests that need a cluster: `eval "$(python -m tests.support.cluster_env --cluster NAME)"`.

Builds the image and loads it into the cluster's nodes on the way; both are done once for an unchanged tree.
"""

import argparse
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = str(ROOT / "hack/cluster/cluster")
IMAGE = str(ROOT / "hack/image/build")


def output_of(*command: str) -> str:
    """The last line that the command printed; what it says on stderr goes through."""
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip().splitlines()[-1]


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cluster", required=True)
    name = parser.parse_args().cluster
    try:
        tag = output_of(IMAGE, "--print-tag")
        archive = output_of(IMAGE, "--tag", tag)
        subprocess.run([CLUSTER, "load-image", "--name", name, archive], check=True, stdout=sys.stderr)
        variables = {
            "KUBECONFIG": output_of(CLUSTER, "kubeconfig", "--name", name),
            "MABEAM_TEST_CLUSTER": name,
            "MABEAM_TEST_IMAGE": tag,
            "MABEAM_TEST_KUBECTL": output_of(CLUSTER, "bin", "kubectl"),
            "MABEAM_TEST_HELM": output_of(CLUSTER, "bin", "helm"),
        }
    except subprocess.CalledProcessError as problem:
        print(f"false # {shlex.join(problem.cmd)} failed with exit code {problem.returncode}")
        return problem.returncode
    for key, value in variables.items():
        print(f"export {key}={shlex.quote(value)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
