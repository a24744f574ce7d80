"""The façade: one object for everything that a lab does with a campaign. The only place that knows both ledger and methods.

Every verb can be run again: what is finished is read from the ledger, never done twice.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import pandas as pd
from filelock import FileLock

from labloop.assays import readings
from labloop.assays.ingest import Explanation
from labloop.assays.quality.report import Inspection, inspect
from labloop.campaign.approval import approve, reject
from labloop.compare.arms import Comparison, compare
from labloop.config.campaign import CampaignConfig, RoundConfig, load_config, parse_config, preset
from labloop.errors import CampaignError, LedgerError, MethodError
from labloop.ledger import Ledger, Round
from labloop.plates.batch import Batch, write_batch
from labloop.plates.layout import lay_out
from labloop.proposing.belief import Past
from labloop.proposing.dataset import Dataset
from labloop.proposing.pipeline import (
    FAILURES,
    Trained,
    Training,
    check_exporters,
    check_plugins,
    choose,
    earlier,
    judge,
    judged,
    notes_of,
    plan,
    train,
    versions,
)
from labloop.proposing.pool import Picks, Pool
from labloop.registry import create
from labloop.rounds import intake
from labloop.rounds import state as views
from labloop.rounds.audit import Audit, audit
from labloop.rounds.bounds import with_beta
from labloop.rounds.correction import Corrected
from labloop.rounds.exports import exported
from labloop.rounds.intake import Receipt, Request
from labloop.rounds.revision import changes, revised
from labloop.rounds.tidy import tidy, write_tidy
from labloop.runtime.artifacts import Artifacts
from labloop.runtime.checkpoints import folder_of, keeping
from labloop.runtime.devices import device_lock
from labloop.runtime.workers import Workers, spread
from labloop.seeds import derive

if TYPE_CHECKING:
    from labloop.campaign.step import Step

log = logging.getLogger("labloop")


class Campaign:
    """A campaign in a ledger. Make one with `Campaign.create` or `Campaign.open`."""

    def __init__(self, config: CampaignConfig, ledger: Ledger, home: Path) -> None:
        self.config = config
        self.ledger = ledger
        self.folder = home / config.name
        """Reports, locks and trained models of this campaign; everything in it can be made again from the ledger."""

    @classmethod
    def create(cls, config: CampaignConfig | Path | str, *, home: Path | str | None = None, ledger: str | None = None) -> Self:
        """Start a campaign from its configuration, or from the YAML file that holds it.

        Args:
            home: folder of ledger and reports; `$LABLOOP_HOME`, else `labloop-data` here.
            ledger: database URL; `$LABLOOP_LEDGER`, else a SQLite file in `home`.

        Raises:
            ConfigError: the file does not make sense.
            CampaignError: a campaign of this name exists.
        """
        config = _checked(config)
        place, opened = open_ledger(home, ledger, create=True)
        opened.add_campaign(config.name, config.model_dump_json())
        return cls(config, opened, place)

    @classmethod
    def open(cls, name: str, *, home: Path | str | None = None, ledger: str | None = None) -> Self:
        """Open a campaign of the ledger by its name.

        Raises:
            CampaignError: there is none of this name; the message lists those there are.
        """
        place, opened = open_ledger(home, ledger)
        return cls(_stored_config(opened, name), opened, place)

    @property
    def name(self) -> str:
        return self.config.name

    @cached_property
    def artifacts(self) -> Artifacts:
        """Trained models: in the campaign's folder, or below `$LABLOOP_ARTIFACTS`, a folder or URL that machines share."""
        shared = os.environ.get("LABLOOP_ARTIFACTS")
        return Artifacts(f"{shared.rstrip('/')}/{self.name}" if shared else self.folder / "models")

    def revise(self, config: CampaignConfig | Path | str, *, reason: str) -> list[str]:
        """Replace the configuration from now on; rounds that are open keep the one that they were opened with.

        All measurements stay usable: what is no longer allowed is kept in the dataset and never proposed.

        Returns:
            What changed, one sentence each; nothing where the configuration is this one already.

        Raises:
            ConfigError: name, objective or columns change, or a design of the campaign would be lost or become another.
            CampaignError: there is no reason.
        """
        config = _checked(config)
        if not reason.strip():
            raise CampaignError(f"{self.name}: say why it is revised (--reason '…'), for whoever reads the ledger later")
        with self._lock(), self.ledger.begin():
            old = _stored_config(self.ledger, self.name)
            assays = self.ledger.measurements(self.name)["assay"].unique()
            self.config = revised(old, config, designs=views.designs(old, self.ledger), assays=assays)
            told = changes(old, self.config)
            if told:
                self.ledger.revise(self.name, self.config.model_dump_json(), reason=reason)
        intake.catch_up(self.config, self.ledger)
        return told

    # ---- measurements

    def ingest(
        self,
        path: Path | str,
        *,
        assay: str | None = None,
        dry_run: bool = False,
        read: str | None = None,
        plates: Sequence[str] = (),
        reader: str | None = None,
        again: bool = False,
    ) -> Receipt:
        """Read a file of the lab, check all of it, and append it to the ledger in one transaction; known bytes change nothing.

        Args:
            read: which read to take, where a plate reader's file holds several: `450`.
            plates: the plate that it shows, where the file does not say, or pairs `Plate 1=NAME`.
            reader: the reader to use, where several know the file.
            again: its readings were measured anew, although some equal those that the ledger has.

        Raises:
            IngestError: with every faulty cell, or with the rows that the ledger has already; nothing was stored.
        """
        request = Request(assay=assay, read=read, plates=plates, reader=reader, again=again)
        return intake.ingest(self.config, self.ledger, Path(path), request, dry_run=dry_run)

    def correct(
        self,
        path: Path | str,
        *,
        reason: str,
        assay: str | None = None,
        dry_run: bool = False,
        read: str | None = None,
        plates: Sequence[str] = (),
        reader: str | None = None,
    ) -> Corrected:
        """Read a corrected file and let its readings supersede those that stand of the same wells; see `correct`.

        Rows that say what stands are left out. Both readings stay in the ledger, with the reason.

        Raises:
            IngestError: a row matches no reading, or it cannot be told which; nothing was stored.
        """
        request = Request(assay=assay, read=read, plates=plates, reader=reader)
        return intake.correct(self.config, self.ledger, path, request, reason=reason, dry_run=dry_run)

    def explain(
        self,
        path: Path | str,
        *,
        assay: str | None = None,
        read: str | None = None,
        plates: Sequence[str] = (),
        reader: str | None = None,
    ) -> Explanation:
        """Tell what `ingest` would make of a file; nothing is stored, and a refusal is told, not raised."""
        request = Request(assay=assay, read=read, plates=plates, reader=reader)
        return intake.explain(self.config, self.ledger, path, request)

    def dataset(self) -> Dataset:
        """Take every measurement so far, with the designs that are in the lab now as pending.

        Raises:
            QualityError: the declared normalisation cannot be done, or lowers the agreement of replicates.
        """
        return views.dataset(self.config, self.ledger)

    def export_dataset(self, path: Path | str, *, assay: str | None = None, controls: bool = False) -> tuple[Path, int]:
        """Write every reading as one tidy table, `.csv` or `.parquet` (see `labloop.rounds.tidy`); returns path and rows."""
        table = tidy(self.config, self.ledger, assay=assay, controls=controls)
        return write_tidy(table, Path(path)), len(table)

    # ---- a round

    def propose(
        self, config: RoundConfig | Path | str | None = None, *, out: Path | str | None = None, workers: Workers = 1,
        on_failure: Literal["stop", "drop"] | None = None, now: bool = True,
    ) -> Batch:  # fmt: skip
        """Run a round up to its plate: open it, train every proposer, choose and lay out the wells, export where `out` is given.

        A round that is open already is taken up where it stopped; a finished one gives its batch again, unchanged.

        Args:
            workers: train side by side on so many processes, or on a Dask cluster: see `labloop.runtime.workers`.
            on_failure: what becomes of a round with a proposer that failed, see `train_all`.
            now: open another round although all that were planned are done; the log says so.

        Raises:
            CampaignError: there is nothing to learn from, all planned rounds are done and `now` is not set, or an open round has
                another configuration or waits for the lab.
            MethodError: proposers failed, and the round does not go on without them.
        """
        if end := views.beyond_plan(self.config, self.ledger):
            if not now:
                raise CampaignError(f"{self.name}: {end}")
            log.warning("%s: one more round than the %d that were planned", self.name, self.config.rounds)
        number = self.ensure_round(config)
        self.train_all(number, workers=workers, on_failure=on_failure)
        batch = self.ensure_proposed(number)
        if out is not None:
            self.export(out, number=number)
        return batch

    def ensure_round(self, config: RoundConfig | Path | str | None = None) -> int:
        """Open the next round, or return the number of the one that is open with this configuration."""
        if config is None:
            config = preset("rounds/default.yaml")
        if not isinstance(config, RoundConfig):
            config = load_config(config, RoundConfig)
        text = config.model_dump_json()
        with self._lock():
            intake.catch_up(self.config, self.ledger)  # whoever stored the last wells may have died before it got there
            rounds = self.ledger.rounds(self.name)
            last = rounds[-1] if rounds else None
            if last is not None and last.state not in ("MEASURED", "CLOSED") and last.config == text:
                return last.number
            number = last.number + 1 if last else 1
            config.wells(self.config.plate.capacity * config.plates)
            check_plugins(config, number=number, rounds=self.config.rounds)
            if last is not None and last.state in views.AT_THE_LAB:
                raise CampaignError(
                    f"round {last.number} of {self.name} is at the lab with another configuration: ingest its wells, or run "
                    f"'labloop close {self.name} --reason …', before a round with this one"
                )
            if last is not None and last.state != "CLOSED":
                self.close(last.number, reason="" if last.state == "MEASURED" else "replaced before it had a plate")
            with self.ledger.begin():  # what the round learns from cannot grow between taking it and noting it
                self._open_round(number, config)
            return number

    def _open_round(self, number: int, config: RoundConfig) -> None:
        readings.check(self.config, self.ledger)  # the round learns from what stands in the ledger before it opens
        data = self.dataset()
        if len(data) < views.ENOUGH and config.judge is not None:
            raise CampaignError(
                f"{self.name} has {len(data)} measured designs, too few to learn from: ingest the lab's measurements first "
                f"('labloop ingest FILE.csv -c {self.name}'), or begin with a plate of random designs "
                f"('labloop propose {self.name} config/rounds/first.yaml')"
            )
        self.ledger.open_round(
            self.name, number, config=config.model_dump_json(), seed=derive(self.config.seed, "round", number),
            fingerprint=data.fingerprint, incumbent=float(data.y[data.best]) if len(data) else None,
            snapshot=self.ledger.newest(self.name),
        )  # fmt: skip
        log.info("%s: round %d opened on %d measured designs", self.name, number, len(data))

    def trainings(self, number: int) -> dict[str, Training]:
        """List the trainings of a round by their key; two arms that ask for the same share it."""
        entry = self._round(number)
        config, run = self._round_config(entry), self._config_of(number)
        wells = run.plate.capacity * config.plates
        planned = plan(config, self._round_data(number), wells=wells, seed=self.seed(number), number=number, rounds=run.rounds)
        return {self._key(entry, training): training for training in planned}

    def ensure_trained(self, number: int, key: str) -> str:
        """Do one of the round's trainings and store its pool, unless that is done; returns the key."""
        entry = self._round(number)
        if key in set(self.ledger.runs(self.name, number)["key"]):
            return key
        with self._lock(f"training-{key}"):
            if key in set(self.ledger.runs(self.name, number)["key"]):
                return key
            training = self.trainings(number)[key]
            trained = _train_kept((training, self._round_data(number), self.artifacts, self._earlier(training, number)))
            self._store_run(entry, key, training, trained)  # whoever waits for the lock must find it
        return key

    def train_all(
        self, number: int, *, workers: Workers = 1, on_failure: Literal["stop", "drop"] | None = None
    ) -> None:  # fmt: skip
        """Do a round's trainings that are not done, one after the other or side by side; each is stored as soon as it is.

        One that fails keeps none of the others from training.

        Args:
            on_failure: `drop` leaves the failed ones out of the round, `stop` waits for a person; what the campaign's schedule
                says by default, `stop` where there is none.

        Raises:
            MethodError: with the name and the reason of each that failed.
        """
        planned = self.trainings(number)
        failed = self._train_one_by_one(number) if workers == 1 else self._train_beside(number, workers)
        if not failed:
            return
        schedule = self.config.schedule
        told = "; ".join(f"{planned[key].proposer} of arm {planned[key].arm} failed: {why}" for key, why in failed.items())
        if (on_failure or (schedule.on_failure if schedule else "stop")) == "drop" and len(failed) < len(planned):
            log.warning("%s: round %d goes on without what failed: %s", self.name, number, told)
            for key, why in failed.items():
                self.drop_training(number, key, proposer=planned[key].proposer, reason=why)
            return
        rest = len(planned) - len(failed)
        raise MethodError(
            told
            + (f" (the other {rest} are trained: mend it and propose again, or go on with --on-failure drop)" if rest else "")
        )

    def _train_one_by_one(self, number: int) -> dict[str, str]:
        failed = {}
        for key in self.trainings(number):
            try:
                self.ensure_trained(number, key)
            except FAILURES as error:
                failed[key] = _reason(error)
                log.warning("%s: round %d: a training failed: %s", self.name, number, failed[key])
        return failed

    def _train_beside(self, number: int, workers: Workers) -> dict[str, str]:
        entry, data, planned = self._round(number), self._round_data(number), self.trainings(number)
        failed = {}
        with ExitStack() as held:
            for key in sorted(planned):  # in one order for all, so that no two wait for each other
                held.enter_context(self._lock(f"training-{key}"))
            done = set(self.ledger.runs(self.name, number)["key"])
            todo = [(key, training) for key, training in planned.items() if key not in done]
            jobs = [(training, data, self.artifacts, self._earlier(training, number)) for _, training in todo]
            for i, trained in spread(_tried, jobs, "trainings", workers=workers):
                if isinstance(trained, str):
                    failed[todo[i][0]] = trained
                else:
                    self._store_run(entry, *todo[i], trained)
        return failed

    def _store_run(self, entry: Round, key: str, training: Training, trained: Trained) -> None:
        pool, notes = trained.pool, notes_of(trained.pool)
        self.ledger.add_run(
            self.name, entry.number, key=key, proposer=training.proposer, arm=training.arm, options=training.options,
            seed=training.seed, fingerprint=entry.fingerprint, device=str(notes.get("device", "cpu")), seconds=trained.seconds,
            cpu_seconds=trained.cpu_seconds, versions=versions(), notes=notes, designs=self._designs(pool),
            pool=pd.DataFrame({"design_id": pool.ids, "rank": np.arange(1, len(pool) + 1), "score": pool.score}),
        )  # fmt: skip

    def _earlier(self, training: Training, number: int) -> tuple[str, ...]:
        """Name where earlier rounds of this arm kept this proposer's models, newest first; for a warm start only."""
        if not training.options.get("warm_start"):
            return ()
        runs = self.ledger.runs(self.name).sort_values("round", ascending=False, kind="stable")
        same = (runs["proposer"] == training.proposer) & (runs["arm"] == training.arm) & (runs["round"] < number)
        space = self._config_of(number).space
        alike = {one for one in runs.loc[same, "round"].unique() if self._config_of(int(one)).space == space}
        same &= runs["round"].isin(alike)  # a model of a space that was revised since has other inputs
        return tuple(
            folder_of(create("proposers", training.proposer, run["options"]), run["fingerprint"], int(run["seed"]))
            for run in runs[same].to_dict("records")
        )

    def drop_training(self, number: int, key: str, *, proposer: str, reason: str) -> None:
        """Leave one training of an open round out, as an event: its arm goes on without it, or its wells go to the other arms."""
        with self._lock():
            entry = self._round(number)
            if entry.state == "READY" and key in self.trainings(number):
                detail = {"key": key, "arm": self.trainings(number)[key].arm, "proposer": proposer, "reason": reason}
                self.ledger.add_event(self.name, "training_dropped", detail, number)
                log.warning("%s: round %d goes on without %s: %s", self.name, number, proposer, reason)

    def ensure_proposed(self, number: int) -> Batch:
        """Choose every arm's wells and lay them out, unless that is done; returns the round's batch."""
        entry = self._round(number)
        if entry.state in ("READY", "TRAINED"):
            with self._lock():
                self._propose(entry)
        return self.batch(number)

    def _propose(self, entry: Round) -> None:
        config, data, number = self._round_config(entry), self._round_data(entry.number), entry.number
        run = self._config_of(number)
        seed = self.seed(number)
        setting = {"seed": seed, "number": number, "rounds": run.rounds}
        offered: dict[str, list[Pool]] = {}
        for key, training in self.trainings(number).items():
            offered.setdefault(training.arm, []).append(self._pool(number, key, training.proposer))
        self.ledger.advance(self.name, number, "TRAINED")
        wells = config.wells(run.plate.capacity * config.plates)
        posterior = judge(config, data, past=self._past(number), **setting) if config.judge else None
        pools = {arm: Pool.interleave(pools) for arm, pools in offered.items()}
        picks = choose(config, pools, posterior, data, wells, **setting)
        table = pd.concat([_table(arm, chosen) for arm, chosen in picks.items()], ignore_index=True)
        names = [f"{self.name}-R{number:02d}-P{i + 1}" for i in range(config.plates)]
        layout = lay_out(run.plate, table, plates=config.plates, names=names, seed=derive(seed, "round", number, "layout"))
        designs = pd.concat([self._designs(chosen.pool) for chosen in picks.values()]).drop_duplicates("design_id")
        if posterior is not None:
            self.ledger.add_event(self.name, "judged", judged(posterior, picks), number)
        self.ledger.add_batch(self.name, number, designs=designs, picks=table, wells=layout)
        log.info("%s: round %d has its plate of %d designs", self.name, number, table["design_id"].nunique())

    def batch(self, number: int | None = None) -> Batch:
        """Read a proposed round's batch back from the ledger; the latest one where no number is given."""
        entry = self._round(number)
        picks = with_beta(self.ledger.picks(self.name, entry.number), self.ledger.events(self.name)).drop(columns="round")
        if picks.empty:
            raise CampaignError(f"round {entry.number} of {self.name} has no batch: run 'labloop propose {self.name}'")
        run = self._config_of(entry.number)
        manifest = {
            "campaign": run.model_dump(mode="json", exclude={"schedule"}),
            "round": self._round_config(entry).model_dump(mode="json"),
            "number": entry.number,
            "seed": self.seed(entry.number),
            "ledger": self.ledger.batch_head(self.name, entry.number),
            "fingerprint": entry.fingerprint,
            "versions": self.ledger.runs(self.name, entry.number)["versions"].iloc[0],
        }
        return Batch(
            campaign=self.name, round=entry.number, picks=picks, wells=self.ledger.wells(self.name, entry.number),
            designs=self.ledger.designs(self.name, picks["design_id"].unique().tolist())[list(run.space.columns)],
            manifest=manifest, objective=run.objective, arms=tuple(self._round_config(entry).arms), shape=run.plate.shape,
        )  # fmt: skip

    def export(
        self, out: Path | str, *, number: int | None = None, exporters: Mapping[str, Mapping[str, Any]] | None = None
    ) -> dict[str, Path]:
        """Write the files of a round's batch into a folder: pick list, plate map, manifest and the empty assay CSV.

        Args:
            exporters: the order sheets and worklists to write, with their options over those that the campaign has for them;
                the campaign's (`plate.exports`), if None.

        Raises:
            BatchError: the batch is beyond what a vendor or a robot takes, or a file cannot be written; nothing was.
        """
        batch = self.batch(number)
        own = self.config.plate.exports
        wanted = own if exporters is None else {name: {**own.get(name, {}), **more} for name, more in exporters.items()}
        written = write_batch(batch, Path(out), more=exported(batch, self.config, wanted))
        self.ledger.advance(self.name, batch.round, "EXPORTED")
        return written

    def close(self, number: int | None = None, *, reason: str | None = None) -> Comparison | None:
        """Close a measured round with its comparison. Wells without a result need a reason; they may be proposed again.

        Returns:
            The comparison of the arms; None where no well of the round has a value.

        Raises:
            CampaignError: wells are missing and no reason is given.
        """
        entry = self._round(number)
        if entry.state != "CLOSED":
            intake.catch_up(self.config, self.ledger)
            missing = views.missing(self.config, self.ledger, entry.number)
            if (len(missing) or entry.state in ("READY", "TRAINED")) and not reason:
                raise CampaignError(
                    f"round {entry.number} of {self.name} waits for {len(missing)} wells ({', '.join(missing['well'][:5])}, …): "
                    "ingest them, or close the round with a reason"
                )
            detail = {"missing": len(missing), "reason": reason or ""}
            for state in ("TRAINED", "PROPOSED", "EXPORTED", "MEASURED", "CLOSED"):
                self.ledger.advance(self.name, entry.number, state, detail if state == "CLOSED" else None)
        results = views.results(self.config, self.ledger)
        measured = results.loc[results["round"] == entry.number, "y"].notna().any()
        return self.compare(entry.number) if measured else None

    # ---- by itself

    def step(self) -> Step:
        """Advance by at most one action, as the campaign's `schedule` says, and tell what was done or what is waited for.

        What is done is in the ledger, so that the step may be killed at any moment and run again by anyone.
        """
        from labloop.campaign.step import step

        return step(self)

    def approve(self, *, by: str = "", reason: str = "") -> int:
        """Approve the proposed round's plate, see `labloop.campaign.approval`; returns the round's number."""
        return approve(self, by=by, reason=reason)

    def reject(self, *, reason: str, by: str = "") -> int:
        """Reject the proposed round's plate: the round closes, another takes its place; returns the rejected round's number."""
        return reject(self, reason=reason, by=by)

    # ---- what came of it

    def compare(self, number: int | None = None) -> Comparison:
        """Compare the arms of one round (the latest that has results, where no number is given).

        Raises:
            CampaignError: no well of a round has been measured yet.
        """
        results = views.results(self.config, self.ledger)
        if number is None:
            with_results = results.loc[results["y"].notna(), "round"]
            if with_results.empty:
                raise CampaignError(
                    f"{self.name} has no measured round to compare: run 'labloop propose {self.name}', then ingest its plate"
                )
            number = int(with_results.max())
        entry = self._round(number)
        runs = self.ledger.runs(self.name, number)
        pools: dict[str, set[str]] = {}
        for run in runs.itertuples():
            pools.setdefault(str(run.arm), set()).update(self.ledger.pool(self.name, number, str(run.key))["design_id"])
        return compare(
            results[results["round"] == number], incumbent=entry.incumbent, runs=runs, pools=pools,
            objective=self.config.objective, seed=derive(self.seed(number), "round", number, "compare"),
        )  # fmt: skip

    def report(self, path: Path | str | None = None) -> Path:
        """Write the campaign's report, one self-contained HTML page; into the campaign's folder where no path is given."""
        from labloop.report import report_of, write_report

        return write_report(Path(path) if path else self.folder / "report.html", report_of(self))

    def quality(self) -> Inspection:
        """Tell what quality control finds on every plate, which readings it flags, and what became of them."""
        return inspect(self.config, self.ledger)

    def audit(self, what: str) -> Audit:
        """Tell who did what and when with a well (`PLATE:WELL`) or a design (its id), from the proposal to the value.

        Raises:
            CampaignError: there is none of this name; the message names the nearest.
        """
        return audit(self.config, self.ledger, what)

    def status(self) -> dict[str, Any]:
        """Tell where the campaign stands and what comes next, as plain values."""
        return views.standing(self.config, self.ledger)

    def seed(self, number: int) -> int:
        """Give the seed that everything of a round derives from: its own, or the campaign's of that time in rounds of 0.1.0."""
        entry = self._round(number)
        return entry.seed if entry.own_seed else self._config_of(number).seed

    def state(self, number: int) -> str | None:
        """Tell a round's state, READY … CLOSED; None where it has not been opened."""
        return next((entry.state for entry in self.ledger.rounds(self.name) if entry.number == number), None)

    # ---- helpers

    def _round(self, number: int | None) -> Round:
        rounds = self.ledger.rounds(self.name)
        if not rounds:
            raise CampaignError(f"{self.name} has no round yet: run 'labloop propose {self.name}'")
        if number is None:
            return rounds[-1]
        if not 1 <= number <= len(rounds):
            raise CampaignError(f"{self.name} has rounds 1 … {len(rounds)}, not {number}")
        return rounds[number - 1]

    def _round_config(self, entry: Round) -> RoundConfig:
        config = parse_config(json.loads(entry.config), RoundConfig, source=f"round {entry.number}")
        events = self.ledger.events(self.name)
        dropped = events.loc[(events["kind"] == "training_dropped") & (events["round"] == entry.number), "detail"]
        for detail in dropped:
            config = config.without(detail["arm"], detail["proposer"])
        return config

    def _config_of(self, number: int) -> CampaignConfig:
        """The campaign's configuration as it was when a round opened, whatever was revised since."""
        return _stored_config(self.ledger, self.name, before_round=number)

    @cached_property
    def _snapshots(self) -> dict[int, Dataset]:
        return {}

    def _round_data(self, number: int) -> Dataset:
        """The dataset as it was when the round opened, whatever came in since."""
        if number not in self._snapshots:
            entry = self._round(number)
            data = views.dataset(self._config_of(number), self.ledger, until=entry.snapshot, before_round=number)
            if data.fingerprint != entry.fingerprint:
                raise CampaignError(
                    f"the data that round {number} of {self.name} was opened on cannot be taken again (fingerprint "
                    f"{data.fingerprint}, not {entry.fingerprint}): close the round with a reason and open the next"
                )
            self._snapshots[number] = data
        return self._snapshots[number]

    def _key(self, entry: Round, training: Training) -> str:
        parts = [self.name, entry.number, entry.fingerprint, training.proposer, training.options, training.n, training.seed]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def _pool(self, number: int, key: str, proposer: str) -> Pool:
        rows = self.ledger.pool(self.name, number, key).sort_values("rank")
        space = self._config_of(number).space
        X = space.encode(rows[list(space.columns)])
        return Pool.of(space, X, rows["score"].to_numpy(float), proposer=proposer)

    def _past(self, number: int) -> Past:
        snapshot = self._round(number).snapshot
        results = views.results(self._config_of(number), self.ledger, until=snapshot, before_round=number)
        events = self.ledger.events(self.name)
        events = events[(events["kind"] == "judged") & (events["round"] < number)]
        told = dict(zip(events["round"].astype(int).tolist(), events["detail"].tolist(), strict=True))
        return earlier(results[results["round"] < number], told)

    def _designs(self, pool: Pool) -> pd.DataFrame:
        return pool.space.decode(pool.X).assign(design_id=pool.ids, in_space=True)

    @contextmanager
    def _lock(self, what: str = "campaign") -> Iterator[None]:
        """Hold a file lock; the kernel frees it if this process dies."""
        locks = self.folder / "locks"
        locks.mkdir(parents=True, exist_ok=True)
        with FileLock(locks / f"{what}.lock"):
            yield


def _train_kept(job: tuple[Training, Dataset, Artifacts, tuple[str, ...]]) -> Trained:
    """Train on this machine, on its device when that is free, stages kept; see `keeping`."""
    training, data, store, earlier = job
    with device_lock(), keeping(store, earlier):
        return train(training, data)


def _tried(job: tuple[Training, Dataset, Artifacts, tuple[str, ...]]) -> Trained | str:
    """Train as `_train_kept` does; the reason where that fails, so that the others' processes go on."""
    try:
        return _train_kept(job)
    except FAILURES as error:
        return _reason(error)


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__


def open_ledger(home: Path | str | None, ledger: str | None, *, create: bool = False) -> tuple[Path, Ledger]:
    """Open the ledger of a home folder, or at a URL; returns the folder too.

    Raises:
        CampaignError: there is none.
        LedgerError: it cannot be opened or made.
    """
    place, where, heads = place_of(home, ledger)
    if isinstance(where, Path) and not create and not where.exists():
        raise CampaignError(f"{place} holds no ledger: start a campaign with 'labloop init', or name its folder with --home")
    if create:
        try:
            place.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LedgerError(f"{place}: cannot be made: {error.strerror}; choose another folder with --home") from error
    return place, Ledger.open(where, heads=heads)


def place_of(home: Path | str | None, ledger: str | None) -> tuple[Path, Path | str, Path]:
    """Tell the home folder, the ledger's file or URL, and where a server's ledger has its heads noted; nothing is opened."""
    place = Path(home or os.environ.get("LABLOOP_HOME") or "labloop-data")
    return place, ledger or os.environ.get("LABLOOP_LEDGER") or place / "ledger.db", place / "ledger.heads"


def _checked(config: CampaignConfig | Path | str) -> CampaignConfig:
    """A configuration from a caller or a file, its exporters made once so that a mistake shows before anything is stored."""
    if not isinstance(config, CampaignConfig):
        config = load_config(config, CampaignConfig).anchored(Path(config).parent)
    check_exporters(config)
    return config


def _stored_config(ledger: Ledger, name: str, before_round: int | None = None) -> CampaignConfig:
    text = ledger.config(name, before_round=before_round)
    return parse_config(json.loads(text), CampaignConfig, source=f"ledger entry of {name}")


def _table(arm: str, picks: Picks) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "arm": arm,
            "design_id": picks.pool.ids,
            "rank": np.arange(1, len(picks) + 1),
            "proposer": picks.pool.proposer,
            "score": picks.pool.score,
            "mean": picks.mean,
            "std": picks.std,
            "lcb": picks.lcb,
            "nearest_id": picks.nearest_id,
            "nearest_distance": np.where(np.isfinite(picks.nearest_distance), picks.nearest_distance, np.nan),
        }
    )


def campaigns(*, home: Path | str | None = None, ledger: str | None = None) -> list[str]:
    """List the names of the campaigns in a ledger; none where there is no ledger yet."""
    try:
        return open_ledger(home, ledger)[1].campaigns()
    except CampaignError:
        return []
