"""What `labloop` alone says: what comes next in this folder; and completion for shells."""

from __future__ import annotations

from rich.text import Text

from labloop.cli import show
from labloop.cli.app import Common, _lab, app
from labloop.cli.progress import PATIENCE


@app.command(group=_lab, name="next")
def here(*, common: Common = Common()) -> None:
    """Tell what comes next in this folder, of each campaign, or how to begin: what labloop alone says."""
    from labloop.campaign.overview import here as look

    common.start()
    with show.progress(json=common.json, what="looking around", after=PATIENCE):
        told = look(home=common.home, ledger=common.ledger)
    if common.json:
        return show.dump(told)
    for one in told["campaigns"]:
        who = f" waits for {one['waits_for']}" if one["waits_for"] else ""
        until = f" until {one['until']}" if one["until"] else ""
        show.out.print(Text(f"{one['campaign']}{who}{until}. Next: {one['next']}"))
    if told["begin"]:
        show.out.print("No campaign here yet. Begin with one of these:")
        wide = max(len(one["command"]) for one in told["begin"])
        for one in told["begin"]:
            show.out.print(Text(f"  {one['command']:<{wide}}   {one['what']}"))
    named = [f"--{name} {value}" for name, value in (("home", common.home), ("ledger", common.ledger)) if value is not None]
    if told["campaigns"] and named:
        show.out.print(Text(f"Add {' '.join(named)} to each of these commands."))
    show.out.print("All commands: labloop --help. Another folder: labloop next --home FOLDER.")


app.register_install_completion_command(help="Let the shell complete labloop's commands and options (bash, zsh, fish).")
