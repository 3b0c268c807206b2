"""Deploys template.yaml with built binaries to the local AWS by `sam deploy`, and prints the stack's outputs as JSON.

    stack.py ENDPOINT WORKER
    stack.py ENDPOINT WORKER CONTROL    the control plane too; on standard input `{"parameters": {NAME: VALUE}, "secrets": {NAME:
                                        TEXT}, "pinned": BOOL}`: each secret NAMESecret has that text first, and its ARN, with its version
                                        where it is pinned, are the parameters NAMESecretArn and NAMESecretVersion. Prints
                                        `{"outputs": …, "control": …}`, the latter as the local AWS has the function

SAM gets what `sam build` leaves: the template, and the binary as `bootstrap` in a package. The template is the deployed
one but for an endpoint in the functions' environment, since the local AWS is not where an SDK would look for it, and
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
    """
    is_query = resource["Type"] == "AWS::Logs::QueryDefinition"
    is_over_expression = resource["Type"] == "AWS::CloudWatch::Alarm" and "Metrics" in resource["Properties"]
    return not is_query and not is_over_expression


def package(binary: pathlib.Path, file: pathlib.Path) -> None:
    """The binary as `cargo lambda build` names it, in a package that SAM uploads as it is."""
    bootstrap = zipfile.ZipInfo("bootstrap")
    bootstrap.external_attr = 0o100755 << 16
    bootstrap.compress_type = zipfile.ZIP_DEFLATED
    with zipfile.ZipFile(file, "w", compresslevel=1) as archive:
        archive.writestr(bootstrap, binary.read_bytes())


def session() -> boto3.Session:
    return boto3.Session("test", "test", region_name=REGION)


def put_secrets(endpoint: str, secrets: dict, is_pinned: bool) -> dict:
    """The parameters that lead to the secrets."""
    client = session().client("secretsmanager", endpoint_url=endpoint)
    there = {secret["Name"] for secret in client.list_secrets()["SecretList"]}
    parameters = {}
    for name, text in secrets.items():
        if name in there:
            put = client.put_secret_value(SecretId=name, SecretString=text)
        else:
            put = client.create_secret(Name=name, SecretString=text)
        parameters[f"{name}SecretArn"] = put["ARN"]
        if is_pinned:
            parameters[f"{name}SecretVersion"] = put["VersionId"]
    return parameters


def override(name: str, value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'ParameterKey={name},ParameterValue="{escaped}"'


def deploy(folder: pathlib.Path, endpoint: str, binaries: dict, parameters: dict) -> None:
    body = template.source(template.TEMPLATE)
    resources = body["Resources"].items()
    body["Resources"] = {name: resource for name, resource in resources if is_known_to_local_aws(resource)}
    for name, binary in binaries.items():
        package(binary, folder / f"{name}.zip")
        function = body["Resources"][name]["Properties"]
        function["CodeUri"] = f"{name}.zip"
        function["Environment"]["Variables"]["AWS_ENDPOINT_URL"] = endpoint
    # SAM looks for its code also where its condition does not hold.
    body["Resources"]["ControlFunction"]["Properties"]["CodeUri"] = f"{list(binaries)[-1]}.zip"
    (folder / "template.json").write_text(json.dumps(body), encoding="utf-8")

    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": REGION}
    # Nobody's profile, and nothing left at home.
    environment |= {"AWS_ENDPOINT_URL": endpoint, "HOME": str(folder), "SAM_CLI_TELEMETRY": "0"}
    sam = pathlib.Path(sys.executable).with_name("sam")
    command = [sam, "deploy", "--template-file", folder / "template.json", "--config-file", ROOT / "samconfig.toml"]
    command += ["--stack-name", STACK, "--parameter-overrides"]
    command += [override(name, value) for name, value in parameters.items()]
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{done.stdout}\n{done.stderr}")


def described(endpoint: str, name: str) -> dict:
    """A function as it was deployed: its environment, what invokes it, and its URL."""
    functions = session().client("lambda", endpoint_url=endpoint)
    events = session().client("events", endpoint_url=endpoint)
    arn = functions.get_function_configuration(FunctionName=name)["FunctionArn"]
    rules = events.list_rule_names_by_target(TargetArn=arn)["RuleNames"]
    return {
        "environment": functions.get_function_configuration(FunctionName=name)["Environment"]["Variables"],
        "mappings": functions.list_event_source_mappings(FunctionName=name)["EventSourceMappings"],
        "schedules": [events.describe_rule(Name=rule) for rule in rules],
        "url": functions.get_function_url_config(FunctionName=name),
    }


def main() -> None:
    endpoint, *programs = sys.argv[1:]
    binaries = dict(zip(("WorkerFunction", "ControlFunction"), (pathlib.Path(binary).resolve() for binary in programs)))
    parameters = {"Architecture": "x86_64"}
    if len(programs) == 2:
        wanted = json.load(sys.stdin)
        parameters |= wanted["parameters"] | put_secrets(endpoint, wanted["secrets"], wanted["pinned"])
    with tempfile.TemporaryDirectory() as folder:
        deploy(pathlib.Path(folder), endpoint, binaries, parameters)
    stacks = session().client("cloudformation", endpoint_url=endpoint)
    stack = stacks.describe_stacks(StackName=STACK)["Stacks"][0]
    outputs = {output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}
    if len(programs) == 2:
        outputs = {"outputs": outputs, "control": described(endpoint, outputs["ControlFunctionName"])}
    json.dump(outputs, sys.stdout, default=str)


if __name__ == "__main__":
    main()
