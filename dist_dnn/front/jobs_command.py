"""What `dist-dnn jobs` and its own commands take."""

from typing import Any

from dist_dnn.front.parsing import Command, Parser, whole_number

EXAMPLES = """\
examples:
  dist-dnn jobs submit --address http://head:8265 --wait -- \\
      train s3://bucket/digits.parquet --target digit --workers 4 --out s3://bucket/runs/digits
  dist-dnn jobs list
  dist-dnn jobs status digits-1c94ab37
  dist-dnn jobs logs digits-1c94ab37 --follow
  dist-dnn jobs stop digits-1c94ab37
  dist-dnn jobs resume digits-1c94ab37 --workers 8
  dist-dnn jobs fetch digits-1c94ab37 --to runs/digits

All take --address, or else RAY_API_SERVER_ADDRESS or RAY_ADDRESS of the environment, and a token
where Ray's own commands do: RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token.
`dist-dnn jobs COMMAND --help` describes each.
"""

SUBMIT_EXAMPLES = """\
examples:
  dist-dnn jobs submit -- train s3://bucket/digits.parquet --target digit --out s3://bucket/runs/d
  dist-dnn jobs submit --wait -- train /shared/digits.parquet --config my.toml --out /shared/runs/d

Standard output has the job's name alone. The job installs this very version of dist_dnn, and what
it needs in the versions that are here. A file of --config travels along; DATA and --out are URIs,
or absolute paths on storage that every node sees.
"""


def _add_jobs(parser: Any) -> None:
    jobs = parser.add_subparsers(metavar="COMMAND", required=True, parser_class=Parser)

    submit = _add(jobs, "submit", "train as a job of a Ray cluster", SUBMIT_EXAMPLES)
    submit.advice = "; what the job is to do stands behind --"
    submit.add_argument(
        "train", metavar="train DATA …", nargs="+", help="the command of the job, behind --"
    )
    submit.add_argument(
        "--wait",
        action="store_true",
        help="follow it, on standard error, and end as it ends",
    )
    listing = _add(jobs, "list", "print the cluster's jobs, oldest first")
    status = _add(jobs, "status", "print a job's state and how far its run has come", "ID")
    logs = _add(jobs, "logs", "print what a job has said", "ID --follow")
    logs.add_argument("--follow", action="store_true", help="go on until it has ended")
    stop = _add(jobs, "stop", "end a job with a checkpoint, and wait until it has ended", "ID")
    stop.add_argument("--no-wait", action="store_true", help="ask it to end, and return at once")
    resume = _add(jobs, "resume", "go on with the run of a job that has ended", "ID --workers 8")
    resume.add_argument(
        "--workers", type=whole_number, metavar="N", help="other than before: the same bits"
    )
    resume.add_argument("--epochs", type=whole_number, metavar="N", help="other than before")
    fetch = _add(jobs, "fetch", "copy the run of a job to this machine", "ID --to runs/digits")
    fetch.add_argument("--to", metavar="DIR", required=True, help="the folder to make")

    for each in (listing, status):
        each.add_argument("--json", action="store_true", help="print JSON instead")
    for each in (status, logs, stop, resume, fetch):
        each.add_argument("id", metavar="ID", help="the job's name, as submit printed it")


def _add(jobs: Any, name: str, help: str, examples: str = "") -> Parser:
    if not examples.startswith("examples:"):
        shown = examples.replace("ID", "digits-1c94ab37")
        examples = f"example:\n  dist-dnn jobs {name} {shown}".rstrip()
    parser = Command(_run, help, examples, _add_address).add_to(jobs, name)
    parser.set_defaults(jobs_command=name)
    return parser


def _add_address(parser: Any) -> None:
    parser.add_argument(
        "--address",
        metavar="URL",
        help="the cluster's dashboard, like http://head:8265 (default: RAY_API_SERVER_ADDRESS, "
        "RAY_ADDRESS, or a cluster of this machine)",
    )


def _run(chosen: Any) -> int:
    from dist_dnn.front.jobs import COMMANDS

    return COMMANDS[chosen.jobs_command](chosen)


COMMANDS = {
    "jobs": Command(
        _run,
        "submit trainings to a Ray cluster; list, watch, stop, resume and fetch them",
        EXAMPLES,
        _add_jobs,
    )
}
"""The command by its name."""
