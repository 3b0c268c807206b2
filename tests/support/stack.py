"""Deploys template.yaml with the built binary to the local AWS, and prints the stack's outputs as JSON.

    stack.py ENDPOINT BINARY

The template is the deployed one, expanded as SAM expands it, but for three things: where the code is, an endpoint
for the function, since the local AWS is not where an SDK would look for it, and what the local
AWS does not have and no run depends on: saved queries and alarms over an expression. The binary goes into the package as
`bootstrap`, as `cargo lambda build` names it.
"""

import io
import json
import pathlib
import sys
import time
import zipfile

import boto3

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import template  # noqa: E402

REGION = "us-east-1"
ARTIFACTS = "scene-artifacts"
STACK = "scene"


def package(binary: pathlib.Path) -> bytes:
    bootstrap = zipfile.ZipInfo("bootstrap")
    bootstrap.external_attr = 0o100755 << 16
    bootstrap.compress_type = zipfile.ZIP_DEFLATED
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", compresslevel=1) as file:
        file.writestr(bootstrap, binary.read_bytes())
    return archive.getvalue()


def is_known_to_local_aws(resource: dict) -> bool:
    is_query = resource["Type"] == "AWS::Logs::QueryDefinition"
    return not is_query and "Metrics" not in resource.get("Properties", {})


def main() -> None:
    endpoint, binary = sys.argv[1:]
    session = boto3.Session("test", "test", region_name=REGION)
    s3, stacks = (session.client(name, endpoint_url=endpoint) for name in ("s3", "cloudformation"))
    s3.create_bucket(Bucket=ARTIFACTS)
    s3.put_object(Bucket=ARTIFACTS, Key="worker.zip", Body=package(pathlib.Path(binary)))

    body = template.expanded(template.source(template.TEMPLATE))
    resources = body["Resources"].items()
    body["Resources"] = {name: resource for name, resource in resources if is_known_to_local_aws(resource)}
    function = body["Resources"]["WorkerFunction"]["Properties"]
    function["Code"] = {"S3Bucket": ARTIFACTS, "S3Key": "worker.zip"}
    function["Environment"]["Variables"]["AWS_ENDPOINT_URL"] = endpoint
    parameters = [{"ParameterKey": "Architecture", "ParameterValue": "x86_64"}]
    stacks.create_stack(
        StackName=STACK, TemplateBody=json.dumps(body), Parameters=parameters, Capabilities=["CAPABILITY_IAM"]
    )
    while (stack := stacks.describe_stacks(StackName=STACK)["Stacks"][0])["StackStatus"] == "CREATE_IN_PROGRESS":
        time.sleep(0.2)
    if stack["StackStatus"] != "CREATE_COMPLETE":
        events = stacks.describe_stack_events(StackName=STACK)["StackEvents"]
        sys.exit("\n".join(f"{event['LogicalResourceId']}: {event.get('ResourceStatusReason')}" for event in events))
    json.dump({output["OutputKey"]: output["OutputValue"] for output in stack["Outputs"]}, sys.stdout)


if __name__ == "__main__":
    main()
