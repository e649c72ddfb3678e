"""The Ray job that this process is the entry point of, if it is one."""

import json
import os
from contextlib import suppress
from pathlib import Path

from dist_dnn.data.sources import is_uri
from dist_dnn.errors import InputError

VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray tells a job's entry point by this variable of the environment what the job is."""


def job_id() -> str | None:
    """The job's number, as ``ray job list`` has it; None outside of jobs."""
    with suppress(KeyError, ValueError, TypeError):
        return str(json.loads(os.environ[VARIABLE])["metadata"]["job_submission_id"])
    return None


def check_kept(out: str | Path) -> None:
    """Raise InputError where the run directory would be lost with the folder of a job."""
    if job_id() is not None and not is_uri(str(out)) and not Path(out).is_absolute():
        raise InputError(
            f"--out {out} is relative, and a job's working directory is removed with it: give an "
            f"absolute path on storage that outlives the job, or a URI (s3://…)"
        )
