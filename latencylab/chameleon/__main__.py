"""The command line: ``python -m latencylab.chameleon status|prolong|teardown|guarded``."""

import os
import pwd
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import click

from latencylab.chameleon.during import STATE
from latencylab.chameleon.guard import Guard
from latencylab.chameleon.lease import LeaseDesk, LeaseError, connect
from latencylab.chameleon.teardown import Teardown, TeardownError, belongs


class _Account:
    """What every command needs: the cloud's name, the prefix and the folder of the lease file."""

    def __init__(self, cloud: str, prefix: str, state: Path) -> None:
        self.cloud, self.prefix, self.state = cloud, prefix, state

    def desk(self) -> LeaseDesk:
        return LeaseDesk(connect(self.cloud), self.state)

    def teardown(self) -> Teardown:
        connection = connect(self.cloud)
        return Teardown(connection, LeaseDesk(connection, self.state), self.prefix)


@click.group()
@click.option("--cloud", default="chameleon", show_default=True, help="entry of clouds.yaml")
@click.option(
    "--prefix",
    default=f"latencylab-{pwd.getpwuid(os.getuid()).pw_name}",
    show_default=True,
    envvar="LATENCYLAB_PREFIX",
    help="what the names of our things start with",
)
@click.option("--state", type=click.Path(path_type=Path), default=STATE, help="state folder")
@click.pass_context
def main(context: click.Context, cloud: str, prefix: str, state: Path) -> None:
    """Leases on Chameleon Cloud."""
    context.obj = _Account(cloud, prefix, state)


@main.command()
@click.option("--su-per-machine-hour", type=float, default=1.0, show_default=True, help="price of the flavor")
@click.pass_obj
def status(account: _Account, su_per_machine_hour: float) -> None:
    """Show the leases of the prefix: their end, the hours used and their price."""
    leases = [lease for lease in account.desk().list() if belongs(lease.name, account.prefix)]
    for lease in leases:
        click.echo(lease.describe(su_per_machine_hour))
    if not leases:
        click.echo(f"no lease of {account.prefix}")


@main.command()
@click.option("--minutes", type=click.IntRange(min=1), required=True, help="how much later than now set the end is")
@click.pass_obj
def prolong(account: _Account, minutes: int) -> None:
    """Move the end of the prefix's leases."""
    desk = account.desk()
    for lease in desk.list():
        if belongs(lease.name, account.prefix):
            end = desk.prolong(lease.id, lease.end + timedelta(minutes=minutes)).end
            click.echo(f"lease {lease.name} now ends {end:%Y-%m-%d %H:%M} UTC")


@main.command()
@click.option("--dry-run", is_flag=True, help="only list")
@click.pass_obj
def teardown(account: _Account, dry_run: bool) -> None:
    """Remove everything of the prefix; the exit code is 1 if anything is left."""
    work = account.teardown()
    if dry_run:
        for thing in work.find():
            click.echo(f"would remove {thing}")
        return
    removed = work.run(report=click.echo)
    click.echo(f"{len(removed)} things removed, nothing is left of {account.prefix}")


@main.command(context_settings={"ignore_unknown_options": True})
@click.option("--keep", is_flag=True, help="leave everything running if COMMAND succeeds")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def guarded(account: _Account, keep: bool, command: tuple[str, ...]) -> None:
    """Run COMMAND and tear down when it ends, whichever way: success, failure, Ctrl-C, even kill -9."""
    with Guard(account.cloud, account.prefix, account.state) as guard:
        code = subprocess.run(command, check=False).returncode
        if keep and code == 0:
            guard.keep()
    sys.exit(code)


if __name__ == "__main__":
    try:
        main(prog_name="python -m latencylab.chameleon")
    except (LeaseError, TeardownError) as problem:
        sys.exit(f"chameleon: {problem}")
