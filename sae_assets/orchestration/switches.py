"""Each sensor and schedule that can be switched on says its name, when it looks and what it does, once."""

from dataclasses import dataclass

from sae_assets.catalog.names import name_of


@dataclass(frozen=True)
class Switch:
    """One sensor or schedule of every data set, or of all.

    Attributes:
        action: what its name says after the data set's; looks: when, by keys of the catalog; does: one sentence, for
            the UI; former: how its name began and ended before the data set's name came first; None of one for
            all data sets, whose name is its action.
    """

    action: str
    looks: str
    does: str
    former: tuple[str, str] | None = None

    def name(self, dataset: str = "") -> str:
        """Return the name under which Dagster keeps whether it is on."""
        return self.action if self.former is None else name_of(dataset, self.action)

    @property
    def description(self) -> str:
        """Return what the UI says of it."""
        return f"{self.does} Looks {self.looks}."


REGISTER = Switch(
    "register_chunks",
    "every `arrivals.check_every_seconds`",
    "Registers new examples as chunks (partitions); computes nothing.",
    ("register_", "_chunks"),
)
FOLLOW = Switch(
    "follow",
    "at least every 30 s",
    "Requests what is missing or stale, each asset once what it reads is there and at rest.",
    ("follow_", ""),
)
BACKFILL = Switch(
    "backfill",
    "at `backfills.cron`",
    "Launches one backfill of what is missing or stale; what failed before is left out, aggregates until something "
    "they read was made since.",
    ("backfill_", ""),
)
REPAIR = Switch(
    "repair",
    "at `backfills.repair_cron`",
    "Launches one backfill of what is missing or stale, and what failed before is tried again.",
    ("repair_", ""),
)
VERIFY = Switch(
    "verify_contents",
    "at `backfills.verify_cron`",
    "Hashes every registered example again; a check names what changed or vanished.",
    ("verify_", "_contents"),
)
ALERT = Switch(
    "post_failed_runs",
    "at every failed run",
    "Posts the run as JSON to the address in SAE_ASSETS_WEBHOOK_URL (one switch for all data sets).",
)
SWITCHES = (REGISTER, FOLLOW, BACKFILL, REPAIR, VERIFY, ALERT)


def renamed(name: str) -> str | None:
    """Return today's name of a switch that is called as before the data set's name came first; None of any other."""
    for switch in SWITCHES:
        if switch.former is not None:
            before, after = switch.former
            dataset = name.removeprefix(before).removesuffix(after)
            if dataset and name == f"{before}{dataset}{after}":
                return switch.name(dataset)
    return None
