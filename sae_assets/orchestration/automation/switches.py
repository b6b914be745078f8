"""What can be switched on: the name of each sensor and schedule, when it looks and what it does, said once."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Switch:
    """One sensor or schedule of every data set, or of all.

    Attributes:
        pattern: of its name, with ``{dataset}``; looks: when, by keys of the catalog; does: one sentence, for the UI.
    """

    pattern: str
    looks: str
    does: str

    def name(self, dataset: str = "") -> str:
        """The name under which Dagster keeps whether it is on."""
        return self.pattern.format(dataset=dataset)

    @property
    def description(self) -> str:
        """What the UI says of it."""
        return f"{self.does} Looks {self.looks}."


REGISTER = Switch(
    "register_{dataset}_chunks",
    "every `arrivals.check_every_seconds`",
    "Registers new examples as chunks (partitions); computes nothing.",
)
FOLLOW = Switch(
    "follow_{dataset}",
    "at least every 30 s",
    "Requests what is missing or stale, each asset once what it reads is there and at rest.",
)
BACKFILL = Switch(
    "backfill_{dataset}",
    "at `backfills.cron`",
    "Launches one backfill of what is missing or stale; what failed before is left out, aggregates until something "
    "they read was made since.",
)
REPAIR = Switch(
    "repair_{dataset}",
    "at `backfills.repair_cron`",
    "Launches one backfill of what is missing or stale, and what failed before is tried again.",
)
VERIFY = Switch(
    "verify_{dataset}_contents",
    "at `backfills.verify_cron`",
    "Hashes every registered example again; a check names what changed or vanished.",
)
ALERT = Switch(
    "post_failed_runs",
    "at every failed run",
    "Posts the run as JSON to the address in SAE_ASSETS_WEBHOOK_URL (one switch for all data sets).",
)
SWITCHES = (REGISTER, FOLLOW, BACKFILL, REPAIR, VERIFY, ALERT)
