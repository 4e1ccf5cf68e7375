"""Runs the AWS command line in one process: a line of JSON, the arguments, comes in; a line of JSON, exit code and what was printed, goes out."""
import contextlib
import io
import json
import sys

from awscli.clidriver import create_clidriver

command_line = create_clidriver()


def run(args):
    out, err = io.TextIOWrapper(io.BytesIO(), "utf-8"), io.TextIOWrapper(io.BytesIO(), "utf-8")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            # these options stay in a session
            fresh = "--no-sign-request" in args or "--region" in args
            code = (create_clidriver() if fresh else command_line).main(args)
        except SystemExit as e:
            code = e.code
    out.flush()
    err.flush()
    return {"code": code, "out": out.buffer.getvalue().decode(), "err": err.buffer.getvalue().decode()}


def operations():
    model = command_line.session.get_service_model("kms")
    return {"code": 0, "out": json.dumps(sorted(model.operation_names)), "err": ""}


for line in sys.stdin:
    args = json.loads(line)
    print(json.dumps(run(args) if args else operations()), flush=True)
