"""The kinds of trials of scripts/torture.py. To add a kind, add it here."""

from scripts.trials import (
    full_disks,
    hostile_http,
    kills_in_export,
    kills_in_saves,
    kills_in_training,
    pairs,
    ragged_batches,
)
from scripts.trials.tables import HOSTILE_TABLES, TABLES
from scripts.trials.trial import Kind

KINDS: tuple[Kind, ...] = (
    kills_in_training.KIND,
    kills_in_export.KIND,
    kills_in_saves.KIND,
    pairs.KIND,
    full_disks.KIND,
    *TABLES,
    *HOSTILE_TABLES,
    hostile_http.KIND,
    ragged_batches.KIND,
)
