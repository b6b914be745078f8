"""``python -m`` of this module is Dagster's webserver, with the same arguments and reports, behind the guard."""

from sae_assets.orchestration.instance.engines import keep_engines
from sae_assets.orchestration.instance.guard import Guard
from sae_assets.orchestration.instance.reports import Reports
from sae_assets.orchestration.internals import webserver_behind
from sae_assets.settings import load_settings, ui_hosts

if __name__ == "__main__":
    keep_engines()
    webserver_behind(lambda app: Guard(Reports(app, load_settings()), ui_hosts()))
