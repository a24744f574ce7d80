"""The commands. Heavy imports stay inside them: `labloop --help` and `labloop ingest` load no torch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args

from cyclopts import App, Group, Parameter, Token, convert

from labloop import __version__
from labloop.cli import show
from labloop.cli.progress import PATIENCE, Log, Terminal
from labloop.runtime.allowance import allow_found

if TYPE_CHECKING:
    from labloop.campaign.facade import Campaign


def _unrounded(kind: Any, tokens: Sequence[Token]) -> Any:
    """Convert as cyclopts does, but refuse 2.5 where a whole number is wanted, which it takes for 2."""
    for token in tokens if int in (kind, *get_args(kind)) else ():
        whole = True
        with suppress(ValueError):
            whole = float(token.value).is_integer()
        if not whole:
            raise ValueError(f"write a whole number, not {token.value}")
    return convert(kind, tokens)


app = App(
    name="labloop",
    default_parameter=Parameter(negative="", converter=_unrounded),
    version=__version__,
    help="Wet-lab campaigns as rounds of offline model-based optimisation: propose a plate, measure it, compare, repeat.",
    error_console=Terminal(stderr=True),
)
_lab = Group("At the lab", sort_key=1)
_research = Group("Before a well is spent", sort_key=2)


@Parameter(name="*")
@dataclass(frozen=True)
class Common:
    """Options of every command."""

    home: Path | None = None
    """Folder of ledger and reports [default: $LABLOOP_HOME, else labloop-data]."""
    ledger: str | None = None
    """Database URL [default: $LABLOOP_LEDGER, else a SQLite file in the home folder]."""
    json: bool = False
    """Print JSON for programs instead of tables for people."""
    verbose: bool = False
    """Print what is going on while it goes on."""
    plugins: Annotated[tuple[str, ...], Parameter(show_default=False)] = ()
    """Module whose plug-ins files may name by import path, my_module:MyMethod; once for each [default: $LABLOOP_PLUGINS]."""

    def __post_init__(self) -> None:
        allow_found(*(name.strip() for told in self.plugins for name in told.split(",")))

    def open(self, name: str) -> Campaign:
        from labloop.campaign.facade import Campaign

        return Campaign.open(name, home=self.home, ledger=self.ledger)

    def start(self) -> None:
        shown = logging.StreamHandler()
        shown.setFormatter(Log("%(message)s"))
        logging.basicConfig(level=logging.INFO if self.verbose else logging.WARNING, handlers=[shown])


@app.command(group=_lab)
def init(config: Path, *, common: Common = Common()) -> None:
    """Start a campaign.

    Args:
        config: the campaign's YAML file, such as config/campaigns/tfbind8.yaml.
    """
    from labloop.campaign.facade import Campaign

    common.start()
    campaign = Campaign.create(config, home=common.home, ledger=common.ledger)
    show.status(campaign.status(), json=common.json, title=f"Campaign {campaign.name} is made.")
    if campaign.config.schedule is not None:
        from labloop.campaign import step
        from labloop.campaign.inbox import folder as inbox

        inbox.look(step.inbox_of(campaign))
        show.note(f"Assay files may be dropped into {step.inbox_of(campaign)}; labloop schedule runs the rounds.")


@app.command(group=_lab)
def ingest(
    file: Path, *, campaign: Annotated[str, Parameter(name=["--campaign", "-c"])], assay: str | None = None,
    read: str | None = None, plate: tuple[str, ...] = (), reader: str | None = None, again: bool = False, explain: bool = False,
    dry_run: bool = False, common: Common = Common(),
) -> None:  # fmt: skip
    """Read a file of the lab into the ledger, whole or not at all: a table of wells, a plate reader's export, or Excel.

    Args:
        file: the file as the lab sends it.
        campaign: the campaign that it belongs to.
        assay: which assay it holds [default: the objective's].
        read: which read to take, where the file holds several, such as 450.
        plate: the plate that it shows, where the file does not say; or 'Plate 1=NAME', once for each of the file's
            plates; 'Plate 2=' leaves one out.
        reader: which reader to use, where several know the file (`labloop methods` lists them).
        again: its readings were measured anew, although they equal some of the ledger's.
        explain: show what is recognised, and store nothing.
        dry_run: check everything and store nothing.
    """
    common.start()
    run = common.open(campaign)
    if explain:
        with show.progress(json=common.json, what="reading the file", after=PATIENCE):
            told = run.explain(file, assay=assay, read=read, plates=plate, reader=reader)
        show.explanation(told, json=common.json)
        if told.refusal is not None:
            raise told.refusal
        return
    with show.progress(json=common.json):
        receipt = run.ingest(file, assay=assay, dry_run=dry_run, read=read, plates=plate, reader=reader, again=again)
    show.receipt(receipt, json=common.json)
    if run.config.schedule is not None and not dry_run:
        from labloop.runtime.prefect_api import wake

        show.note(wake(campaign, receipt.sha256))


@app.command(group=_lab)
def status(campaign: str | None = None, *, common: Common = Common()) -> None:
    """Tell where a campaign stands and what comes next; without a name, list the campaigns.

    Args:
        campaign: the campaign's name.
    """
    from labloop.ledger.memory import campaigns

    common.start()
    if campaign is not None:
        run = common.open(campaign)
        with show.progress(json=common.json, what="counting readings", after=PATIENCE):
            told = run.status()
        show.status(told, json=common.json)
        if run.config.schedule is not None and not common.json:
            from labloop.campaign import step
            from labloop.campaign.inbox import folder as inbox

            for why in inbox.look(step.inbox_of(run), remember=False).why:
                show.note(f"Not taken from the inbox yet: {why}.")
        return
    with show.progress(json=common.json, what="counting readings", after=PATIENCE):
        every = [common.open(name).status() for name in campaigns(home=common.home, ledger=common.ledger)]
    show.statuses(every, json=common.json)


@app.command(group=_lab)
def propose(
    campaign: str,
    config: Annotated[Path | None, Parameter(name=["--round", "--config"])] = None,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])] = Path("out"),
    workers: int | str = 1,
    on_failure: Literal["stop", "drop"] | None = None,
    now: bool = False,
    hold: bool = False,
    common: Common = Common(),
) -> None:
    """Train every proposer, choose the wells and write the plate's files. Run again, it goes on or changes nothing.

    Args:
        campaign: the campaign's name.
        config: the round's YAML file, or auto: arms by the last backtest [default: as the round that is open was opened, else
            config/rounds/default.yaml].
        out: folder for pick list, plate map, manifest and the empty assay CSV.
        workers: train side by side: a number of processes, or the address of a Dask scheduler, tcp://host:8786.
        on_failure: a proposer that fails: `drop` goes on without it, `stop` trains the others and stops
            [default: as the campaign's schedule says, else stop].
        now: open another round although all that were planned are done.
        hold: write no files yet, so that wells can be vetoed (labloop veto); labloop export writes them.
    """
    common.start()
    run = common.open(campaign)
    with show.progress(json=common.json):
        batch = run.propose(config, workers=workers, on_failure=on_failure, now=now)
    written = {} if hold else run.export(out, number=batch.round)
    show.batch(batch, written, json=common.json)


@app.command(group=_lab)
def report(
    campaign: str, *, out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    why: Annotated[bool, Parameter(negative="")] = False, common: Common = Common(),
) -> None:  # fmt: skip
    """Write the campaign's report, one HTML page that opens without a network.

    Args:
        campaign: the campaign's name.
        out: the page's path [default: report.html in the campaign's folder].
        why: with what the judge looks at and whether it can be trusted, which trains it some times, as `labloop why` does.
    """
    common.start()
    run = common.open(campaign)
    with show.progress(json=common.json):
        page = run.report(out, why=why)
    show.written(page, json=common.json)


@app.command(group=_research)
def check(campaign: Path, round: Path | None = None, *, data: Path | None = None, common: Common = Common()) -> None:
    """Check a campaign's YAML, a round's and the start file with it, and say what was understood; nothing is stored.

    Args:
        campaign: the campaign's YAML file.
        round: the round's YAML file.
        data: the file of what was measured so far: how its columns, units and rows are read.
    """
    from labloop.campaign.checks import check_configs, check_start

    with show.progress(json=common.json, what="checking", after=PATIENCE):
        understood = check_configs(campaign, round)
        told, refusal = (None, None) if data is None else check_start(campaign, data, round)
    if told is not None:
        understood["start"] = told
    show.checked(understood, json=common.json)
    if refusal is not None:
        raise refusal


@app.command(group=_research)
def simulate(
    campaign: Path,
    *,
    lab: str,
    round: Path | None = None,
    start: int | Literal["offline"] = 500,
    start_quantile: float = 0.5,
    rounds: int = 4,
    batch: int = 96,
    seeds: int = 5,
    arms: str | None = None,
    mode: Literal["separate", "shared"] = "separate",
    on_failure: Literal["stop", "drop"] = "drop",
    workers: int | str = 1,
    common: Common = Common(),
) -> None:
    """Run simulated campaigns: what would these arms have found in a lab that is known?

    Args:
        campaign: the campaign's YAML file.
        lab: tfbind8, or hartmann6/noise=0.1 with options, or lookup:FILE.csv for a complete table of designs and values.
        round: the round's YAML file, with its arms [default: config/rounds/quick.yaml].
        start: measured designs to begin with, from the worse part of the lab; `offline` for all of it.
        start_quantile: how much of the lab that part is: 0.5 is the worse half, 1 all of it, a random start.
        rounds: plates in a row.
        batch: wells of a plate.
        seeds: campaigns of each arm, each from another start.
        arms: names of arms or proposers, with commas between [default: all].
        mode: `separate`: every arm fills its own plates. `shared`: one plate, side by side.
        on_failure: a proposer that fails: `drop` goes on without it in that round and says so, `stop` ends here.
        workers: run campaigns side by side: a number of processes, or the address of a Dask scheduler, tcp://host:8786.
    """
    from labloop.config.campaign import CampaignConfig
    from labloop.config.read import load_config
    from labloop.studies.ignored import ignored
    from labloop.studies.simulate import simulate as run

    common.start()
    config = load_config(campaign, CampaignConfig)
    for told in ignored(config, batch=batch):
        show.note(f"The simulation ignores {told}.")
    with show.progress(json=common.json):
        table = run(
            campaign, lab, round_config=round, start=start, start_quantile=start_quantile, rounds=rounds, batch=batch,
            seeds=seeds, arms=None if arms is None else arms.split(","), mode=mode, on_failure=on_failure, workers=workers,
        )  # fmt: skip
    show.simulated(table, config.objective, json=common.json)


@app.command(group=_research)
def study(
    study: Path,
    *,
    labs: str | None = None,
    arms: str | None = None,
    starts: str | None = None,
    seeds: int | None = None,
    out: Annotated[Path | None, Parameter(name=["--out", "-o"])] = None,
    workers: int | str = 1,
    common: Common = Common(),
) -> None:
    """Compare arms over many simulated labs, with paired starts. Run again, it goes on: the folder keeps finished jobs.

    Arms can be added later: with --arms, arms of the study that the folder holds whole are summed up beside those that run.

    Args:
        study: the study's YAML file, such as config/studies/quick.yaml.
        labs: only these of its labs, with commas between.
        arms: run only these of its arms, with commas between.
        starts: only these of its sizes of a start, with commas between.
        seeds: that many seeds rather than the study's.
        out: folder of the jobs' results, of rows.csv, study.json, study.md and the page study.html [default: out/NAME]. Choose
            another one after changing a method's code.
        workers: run jobs side by side: a number of processes, or the address of a Dask scheduler, tcp://host:8786.
    """
    from labloop.config.campaign import CampaignConfig
    from labloop.config.read import load_config
    from labloop.studies.ignored import ignored
    from labloop.studies.study import read_study
    from labloop.studies.study import study as run

    common.start()
    config = read_study(study)
    for name, lab in config.labs.items():
        for told in ignored(load_config(lab.campaign, CampaignConfig), batch=lab.batch or config.batch):
            show.note(f"{name}: the study ignores {told}.")
    with show.progress(json=common.json):
        result = run(
            config, out=out or Path("out") / config.name, labs=None if labs is None else labs.split(","),
            arms=None if arms is None else arms.split(","), starts=None if starts is None else starts.split(","), seeds=seeds,
            workers=workers,
        )  # fmt: skip
    show.studied(result, json=common.json)


@app.command(group=_research)
def benchmark(
    *,
    tasks: str = "tfbind8",
    methods: str,
    seeds: int = 8,
    q: Annotated[int, Parameter(name=["--q", "-q"])] = 128,
    fraction: float = 1.0,
    noise: float = 0.0,
    baselines: Annotated[bool, Parameter(negative="--no-baselines")] = True,
    round: Path | None = None,
    data_dir: Path | None = None,
    in_process: Annotated[bool, Parameter(negative="")] = False,
    out: Annotated[Path, Parameter(name=["--out", "-o"])] = Path("out/benchmark"),
    workers: int | str = 1,
    common: Common = Common(),
) -> None:
    """Score offline methods by the Design-Bench protocol. Run again, it goes on: finished jobs are kept in the folder.

    Args:
        tasks: tfbind8, any simulated lab, Design-Bench's names such as UTR-RandomForest-v0, lookup:FILE.csv; with commas between,
            options after slashes: tfbind8/fraction=0.01,rna/q=16; standard for the seven of the docs.
        methods: proposers with commas between, options after slashes: coms,coms/epochs=20; all for every one there is. Arms of
            the round by name, such as offline and bo: judge and selector too, for one plate.
        seeds: runs of each method on each task.
        q: designs that a method offers.
        fraction: share of the visible data that methods see; 0.01 is the sparse view.
        noise: noise on the values that methods see, as a share of their full range; 0.1 is the noisy view.
        baselines: run random, mutate, pairwise and ensemble too.
        round: the round's YAML file, whose arms methods may name [default: config/rounds/default.yaml].
        data_dir: folder of Design-Bench's files, for tasks other than TF Bind 8.
        in_process: run all jobs in one process: faster for small ones, but peak memory is then everybody's.
        out: folder of the results and of the Markdown table. Choose another one after changing a method's code.
        workers: run jobs side by side: a number of processes, or the address of a Dask scheduler, tcp://host:8786.
    """
    from labloop.studies.benchmark import benchmark as run

    common.start()
    with show.progress(json=common.json):
        table = run(
            tasks.split(","), methods.split(","), seeds, q=q, fraction=fraction, noise=noise, baselines=baselines,
            round_config=round, data_dir=data_dir, out=out, in_process=in_process, workers=workers,
        )  # fmt: skip
    show.benchmarked(table, out, json=common.json)


@app.command(group=_research)
def demo(
    *,
    start: int | Literal["offline"] = 500,
    rounds: int = 3,
    common: Common = Common(),
) -> None:
    """See a whole campaign: TF Bind 8 as the lab, three plates through ledger, CSV files and comparison.

    Args:
        start: measured designs to begin with, from the lower half; `offline` for all of it.
        rounds: plates in a row.
    """
    from labloop.studies.demo import rehearse

    common.start()
    folder = common.home or Path("labloop-demo")
    with show.progress(json=common.json):
        run = rehearse(folder, start=start, rounds=rounds, ledger=common.ledger)
    show.demo(run, folder, json=common.json)
