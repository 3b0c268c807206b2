"""The SAM template, as CloudFormation will see it.

    template.py lint    expands the template and lints the result; exit status 1 where something is wrong
    template.py scan    looks for what is insecure with checkov, which `make supply-venv` installs; exit status likewise
    template.py json    prints {"source": …, "expanded": …} for the tests, short tags written out

The expansion matters: linted as it stands, a SAM template passes with a FIFO batch size that SQS refuses or a
misspelt response type, because the rules for those know only the resources that SAM creates.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

from samcli.yamlhelper import yaml_parse
from samtranslator.parser.parser import Parser
from samtranslator.translator.translator import Translator

TEMPLATE = pathlib.Path(__file__).resolve().parent.parent / "template.yaml"

CHECKOV = TEMPLATE.parent / "target" / "supply-venv" / "bin" / "checkov"

# What checkov would have otherwise, each with the reason. Three at most.
SUPPRESSED = {
    "CKV_AWS_115": "the mapping's MaximumConcurrency bounds the function; a reservation would take from the account's others",
    "CKV_AWS_116": "only the queue invokes the function, and a FIFO queue with its own dead letters cannot be a function's",
    "CKV_AWS_117": "the function speaks to S3, SNS and SQS alone; in a VPC each would need an endpoint of its own",
}

# The translator wants code that was uploaded already.
UPLOADED = "s3://deployment-artifacts/worker.zip"


def source(path: pathlib.Path) -> dict:
    """The template with its short tags written out as functions."""
    return json.loads(json.dumps(yaml_parse(path.read_text(encoding="utf-8"))))


def expanded(template: dict) -> dict:
    """The template after the SAM transform."""
    # The translator wants a region, and the result holds for each.
    os.environ.setdefault("AWS_DEFAULT_REGION", "us-east-1")
    template = json.loads(json.dumps(template))
    for resource in template["Resources"].values():
        if resource["Type"] == "AWS::Serverless::Function":
            resource["Properties"]["CodeUri"] = UPLOADED
    # No managed policy is looked up: every function of the template has a role of its own.
    return Translator({}, Parser()).translate(template, {})


def lint(template: dict) -> int:
    """Runs cfn-lint over the expansion."""
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "expanded.json"
        file.write_text(json.dumps(expanded(template), indent=1), encoding="utf-8")
        cfn_lint = pathlib.Path(sys.executable).with_name("cfn-lint")
        command = [str(cfn_lint), "--regions", "us-east-1", "--non-zero-exit-code", "warning", str(file)]
        return subprocess.run(command, check=False).returncode


def settled(value: object) -> object:
    """The value with every condition met: checkov takes the unmet ones for settings that are missing."""
    if isinstance(value, list):
        return [settled(item) for item in value]
    if not isinstance(value, dict):
        return value
    if set(value) == {"Fn::If"}:
        return settled(value["Fn::If"][1])
    return {name: settled(item) for name, item in value.items()}


def scan(template: dict) -> int:
    """Runs checkov over the expansion, as it is with every option that makes it safer."""
    if len(SUPPRESSED) > 3:
        print("more than three suppressions", file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "expanded.json"
        file.write_text(json.dumps(settled(expanded(template)), indent=1), encoding="utf-8")
        command = [str(CHECKOV), "--file", str(file), "--framework", "cloudformation", "--skip-check", ",".join(SUPPRESSED)]
        # Nothing is fetched from or sent to its makers.
        return subprocess.run([*command, "--skip-download", "--compact", "--quiet"], check=False).returncode


def main() -> int:
    if len(sys.argv) not in (2, 3) or sys.argv[1] not in ("lint", "scan", "json"):
        print(__doc__, file=sys.stderr)
        return 2
    template = source(pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 else TEMPLATE)
    if sys.argv[1] == "lint":
        return lint(template)
    if sys.argv[1] == "scan":
        return scan(template)
    json.dump({"source": template, "expanded": expanded(template)}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
