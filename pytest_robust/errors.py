"""The errors a user can meet. Each message says what happened, where, and what to do next."""

from __future__ import annotations


class RobustError(Exception):
    """Base of every error that pytest-robust raises about the user's model, data or threat."""


class PreflightError(RobustError, ValueError):
    """The model and the data do not fit together; raised before any attack is run."""


class ModelError(RobustError, RuntimeError):
    """The model raised, or returned something that cannot be used, during a run."""


class EvidenceError(RobustError):
    """A comparison that the evaluation cannot answer: a bound that may lie on either side, or health that is invalid."""


class ThreatError(RobustError, ValueError):
    """The threat model cannot be used as written, or not with this model."""


class ShardError(RobustError):
    """A share of a check cannot be evaluated by itself, or what the shards came to does not make one evaluation."""


class DamagedError(RobustError):
    """A file that cannot be what was written: cut off, changed, or of another kind. The message names it."""
