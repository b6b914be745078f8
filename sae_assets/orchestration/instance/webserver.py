"""``python -m`` of this module is Dagster's webserver, with the same arguments, behind the guard."""

from sae_assets.orchestration.instance.guard import Guard
from sae_assets.orchestration.internals import webserver_behind
from sae_assets.settings import ui_hosts

if __name__ == "__main__":
    webserver_behind(lambda app: Guard(app, ui_hosts()))
