"""The job of Ray's or Slurm's that this process belongs to, if any."""

import json
import os
from contextlib import suppress
from pathlib import Path

from dist_dnn.data.sources import is_uri
from dist_dnn.errors import InputError

VARIABLE = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""Ray tells a job's entry point by this variable of the environment what the job is."""


def job_id() -> str | None:
    """The job's number, as ``ray job list`` or ``squeue`` has it; None outside of jobs."""
    return _ray_job_id() or os.environ.get("SLURM_JOB_ID")


def _ray_job_id() -> str | None:
    with suppress(KeyError, ValueError, TypeError):
        return str(json.loads(os.environ[VARIABLE])["metadata"]["job_submission_id"])
    return None


def check_kept(out: str | Path) -> None:
    """Raise InputError where the run directory would be lost with the folder of this job."""
    if _ray_job_id() is not None:
        check_outlives(out)


def check_outlives(out: str | Path) -> None:
    """Raise InputError where a run directory would be lost with the folder of a job."""
    if not is_absolute(out):
        raise InputError(
            f"--out {out} is relative, and a job's working directory is removed with it: give an "
            f"absolute path on storage that outlives the job, or a URI (s3://…)"
        )


def is_absolute(location: str | Path) -> bool:
    """Whether a place is the same from every folder: a URI, or an absolute path."""
    return is_uri(str(location)) or Path(location).is_absolute()
