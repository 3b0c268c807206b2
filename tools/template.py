"""The SAM template, as CloudFormation will see it.

    template.py lint    expands the template and lints the result; exit status 1 where something is wrong
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


def main() -> int:
    if len(sys.argv) not in (2, 3) or sys.argv[1] not in ("lint", "json"):
        print(__doc__, file=sys.stderr)
        return 2
    template = source(pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 else TEMPLATE)
    if sys.argv[1] == "lint":
        return lint(template)
    json.dump({"source": template, "expanded": expanded(template)}, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
