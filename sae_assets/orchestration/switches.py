"""Each sensor and schedule that can be switched on says its name, when it looks and what it does, once."""

from dataclasses import dataclass

from sae_assets.catalog.names import name_of


@dataclass(frozen=True)
class Switch:
    """One sensor or schedule of every data set, or of all.

    Attributes:
        action: what its name says after the data set's; looks: when, by keys of the catalog; does: one sentence, for
            the UI; former: its names in earlier versions, with ``{}`` in the data set's place.
        of_each: there is one of each data set; else one of all, whose name is its action.
    """

    action: str
    looks: str
    does: str
    former: tuple[str, ...] = ()
    of_each: bool = True

    def name(self, dataset: str = "") -> str:
        """Return the name under which Dagster keeps whether it is on."""
        return name_of(dataset, self.action) if self.of_each else self.action

    @property
    def description(self) -> str:
        """Return what the UI says of it."""
        return f"{self.does} Looks {self.looks}."


REGISTER = Switch(
    "register_chunks",
    "every `arrivals.check_every_seconds`",
    "Registers new examples as chunks (partitions); computes nothing.",
    ("register_{}_chunks",),
)
FOLLOW = Switch(
    "follow",
    "at least every 30 s",
    "Requests what is missing or stale, each asset once what it reads is there and at rest.",
    ("follow_{}",),
)
BACKFILL = Switch(
    "backfill",
    "at `backfills.cron`",
    "Launches one backfill of what is missing or stale; what failed before is left out, aggregates until something "
    "they read was made since.",
    ("backfill_{}",),
)
REPAIR = Switch(
    "repair",
    "at `backfills.repair_cron`",
    "Launches one backfill of what is missing or stale, and what failed before is tried again.",
    ("repair_{}",),
)
CHECK_CONTENTS = Switch(
    "check_contents",
    "at `backfills.check_cron`",
    "Hashes every registered example again; a check names what changed or vanished.",
    ("verify_{}_contents", "{}__verify_contents"),
)
ALERT = Switch(
    "post_failed_runs",
    "at every failed run",
    "Posts the run as JSON to the address in SAE_ASSETS_WEBHOOK_URL (one switch for all data sets).",
    of_each=False,
)
SWITCHES = (REGISTER, FOLLOW, BACKFILL, REPAIR, CHECK_CONTENTS, ALERT)


def renamed(name: str) -> str | None:
    """Return today's name of a switch that is called as in an earlier version; None of any other.

    A name that a switch has today is none of those: of a data set `follow_birds` there is `follow_birds__follow`.
    """
    if any(_dataset(name, switch.name("{}")) for switch in SWITCHES):
        return None
    for switch in SWITCHES:
        for pattern in switch.former:
            if dataset := _dataset(name, pattern):
                return switch.name(dataset)
    return None


def _dataset(name: str, pattern: str) -> str:
    """Return what stands in a name where the pattern has ``{}``; empty if they do not fit."""
    before, _, after = pattern.partition("{}")
    dataset = name.removeprefix(before).removesuffix(after)
    return dataset if name == f"{before}{dataset}{after}" else ""
