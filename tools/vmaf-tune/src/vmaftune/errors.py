"""Every error a user can meet.

    VmafTuneError            a sentence that names the thing, the limit and the way out
    ├── UsageError           the command or a configuration cannot be carried out as given
    │   ├── SourceError      a source clip cannot be used
    │   └── FolderError      a run folder is locked or holds another plan
    ├── ToolError            ffmpeg, libvmaf, an encoder, a device, a package or the disk is unfit
    ├── DatasetError         a corpus cannot be used          (defined in vmaf_train.errors)
    ├── SweepFailed          the sweep ended with failed cells
    ├── GateHold             the gate said hold
    ├── TargetMissed         a target or a limit that the user set is not met
    └── Interrupted          Ctrl-C, SIGTERM

`cli.py` maps each class to its exit code; no other module knows the codes.
"""

from __future__ import annotations


class VmafTuneError(Exception):
    """Base of all errors shown as one sentence, without a traceback."""


class UsageError(VmafTuneError):
    """The command line, a sweep file or an input cannot be carried out as given."""


class SourceError(UsageError):
    """A source clip is missing, broken or of a kind that is refused."""


class FolderError(UsageError):
    """A run folder is in use by another process or belongs to another plan."""


class ToolError(VmafTuneError):
    """A tool, package, device or the disk is missing or unfit."""


class SweepFailed(VmafTuneError):
    """The sweep ran to its end, and at least one of its cells failed."""


class GateHold(VmafTuneError):
    """The gate of `ship` did not let the candidate pass."""


class TargetMissed(VmafTuneError):
    """The work is done, and a target or a limit that the user set is not met."""


class Interrupted(VmafTuneError):
    """The run was stopped by the user; what was finished is kept."""
