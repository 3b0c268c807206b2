"""Deploys template.yaml with a built binary to the local AWS by `sam deploy`, and prints the stack's outputs as JSON.

    stack.py ENDPOINT BINARY

SAM gets what `sam build` leaves: the template, and the binary as `bootstrap` in a package. The template is the deployed
one but for an endpoint in the function's environment, since the local AWS is not where an SDK would look for it, and
for what is_known_to_local_aws() takes out. Everything else is as samconfig.toml and `make deploy` have it.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile

import boto3

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import template  # noqa: E402

REGION = "us-east-1"
STACK = "scene"


def is_known_to_local_aws(resource: dict) -> bool:
    """The only things that are left out: what MiniStack's CloudFormation refuses. No run depends on either.

    Saved queries: "Unrecognized resource types: [AWS::Logs::QueryDefinition]", and the change set is not made.
    Alarms over an expression: "Properties.Metrics (metric math) is not supported", and the stack is rolled back.
    URLs of functions: as saved queries, though their condition does not hold.
    """
    is_query = resource["Type"] in ("AWS::Logs::QueryDefinition", "AWS::Lambda::Url")
    is_over_expression = resource["Type"] == "AWS::CloudWatch::Alarm" and "Metrics" in resource["Properties"]
    return not is_query and not is_over_expression


def package(binary: pathlib.Path, file: pathlib.Path) -> None:
    """The binary as `cargo lambda build` names it, in a package that SAM uploads as it is."""
    bootstrap = zipfile.ZipInfo("bootstrap")
    bootstrap.external_attr = 0o100755 << 16
    bootstrap.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(file, "w", compresslevel=1) as archive:
        archive.writestr(bootstrap, binary.read_bytes())


def deploy(folder: pathlib.Path, endpoint: str, binary: pathlib.Path) -> None:
    package(binary, folder / "worker.zip")
    body = template.source(template.TEMPLATE)
    resources = body["Resources"].items()
    body["Resources"] = {name: resource for name, resource in resources if is_known_to_local_aws(resource)}
    del body["Outputs"]["ControlApiUrl"]
    # Its condition does not hold, but SAM looks for its code.
    body["Resources"]["ControlFunction"]["Properties"]["CodeUri"] = "worker.zip"
    function = body["Resources"]["WorkerFunction"]["Properties"]
    function["CodeUri"] = "worker.zip"
    function["Environment"]["Variables"]["AWS_ENDPOINT_URL"] = endpoint
    (folder / "template.json").write_text(json.dumps(body), encoding="utf-8")

    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION}
    # Nobody's profile, and nothing left at home.
    environment |= {"AWS_ENDPOINT_URL": endpoint, "HOME": str(folder), "SAM_CLI_TELEMETRY": "0"}
    sam = pathlib.Path(sys.executable).with_name("sam")
    command = [sam, "deploy", "--template-file", folder / "template.json", "--config-file", ROOT / "samconfig.toml"]
    command += ["--stack-name", STACK, "--parameter-overrides", "Architecture=x86_64"]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{done.stdout}\n{done.stderr}")


def main() -> None:
    endpoint, binary = sys.argv[1:]
    with tempfile.TemporaryDirectory() as folder:
        deploy(pathlib.Path(folder), endpoint, pathlib.Path(binary).resolve())
    session = boto3.Session("test", "test", region_name=REGION)
    stacks = session.client("cloudformation", endpoint_url=endpoint)
    stack = stacks.describe_stacks(StackName=STACK)["Stacks"][0]
    json.dump({output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}, sys.stdout)


if __name__ == "__main__":
    main()
