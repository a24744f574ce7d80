"""The façade: one object for everything that a lab does with a campaign; each method is a verb of the rooms below.

Every verb can be run again: what is finished is read from the ledger, never done twice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self

import pandas as pd

from labloop.assays.ingest import Explanation
from labloop.assays.quality.report import Inspection, inspect
from labloop.campaign.approval import approve, reject
from labloop.campaign.step import Step, step
from labloop.compare.hypervolume import Fronts
from labloop.compare.results import Comparison
from labloop.config.campaign import CampaignConfig
from labloop.config.round import RoundConfig
from labloop.ledger.memory import Memory, open_ledger, stored_config
from labloop.ledger.states import RoundState
from labloop.plates.batch import Batch
from labloop.proposing.dataset import Dataset
from labloop.proposing.insight import Insight
from labloop.proposing.pipeline import Training
from labloop.rounds import by_hand, intake, state, training, verbs
from labloop.rounds.audit import Audit, audit
from labloop.rounds.by_hand import HandPicked
from labloop.rounds.correction import Corrected
from labloop.rounds.insights import FITS, insight
from labloop.rounds.intake import Receipt, Request
from labloop.rounds.outcome import compare_properties, compare_round, compare_rounds
from labloop.rounds.outlook import Outlook, outlook
from labloop.rounds.predict import Predictions, predict
from labloop.rounds.revision import checked, revise
from labloop.rounds.tidy import tidy, write_tidy
from labloop.rounds.veto import Vetoed, veto
from labloop.rounds.why import Why, why
from labloop.runtime.workers import Workers


class Campaign(Memory):
    """A campaign in a ledger: its memory, with every verb as a method. Make one with `Campaign.create` or `Campaign.open`."""

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
        config = checked(config)
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
        return cls(stored_config(opened, name), opened, place)

    def revise(self, config: CampaignConfig | Path | str, *, reason: str) -> list[str]:
        """Replace the configuration from now on; rounds that are open keep the one that they were opened with.

        All measurements stay usable: what is no longer allowed is kept in the dataset and never proposed.

        Returns:
            What changed, one sentence each; nothing where the configuration is this one already.

        Raises:
            ConfigError: name, objective or columns change, or a design of the campaign would be lost or become another.
            CampaignError: there is no reason.
        """
        self.config, told = revise(self, config, reason=reason)
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
        return intake.ingest(self, Path(path), request, dry_run=dry_run)

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
        return intake.correct(self, path, request, reason=reason, dry_run=dry_run)

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
        return intake.explain(self, path, request)

    def dataset(self) -> Dataset:
        """Take every measurement so far, with the designs that are in the lab now as pending.

        Raises:
            QualityError: the declared normalisation cannot be done, or lowers the agreement of replicates.
        """
        return state.dataset(self)

    def export_dataset(self, path: Path | str, *, assay: str | None = None, controls: bool = False) -> tuple[Path, int]:
        """Write every reading as a tidy table, `.csv`, `.xlsx` or `.parquet` (`labloop.rounds.tidy`); returns path and rows."""
        table = tidy(self, assay=assay, controls=controls)
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
        return verbs.propose(self, config, out=out, workers=workers, on_failure=on_failure, now=now)

    def ensure_round(self, config: RoundConfig | Path | str | None = None) -> int:
        """Open the next round, or return the number of the one that is open with this configuration."""
        return verbs.ensure_round(self, config)

    def trainings(self, number: int) -> dict[str, Training]:
        """List the trainings of a round by their key; two arms that ask for the same share it."""
        return training.trainings(self, number)

    def ensure_trained(self, number: int, key: str) -> str:
        """Do one of the round's trainings and store its pool, unless that is done; returns the key."""
        return training.ensure_trained(self, number, key)

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
        training.train_all(self, number, workers=workers, on_failure=on_failure)

    def drop_training(self, number: int, key: str, *, proposer: str, reason: str) -> None:
        """Leave one training of an open round out, as an event: its arm goes on without it, or its wells go to the other arms."""
        training.drop_training(self, number, key, proposer=proposer, reason=reason)

    def ensure_proposed(self, number: int) -> Batch:
        """Choose every arm's wells and lay them out, unless that is done; returns the round's batch."""
        return verbs.ensure_proposed(self, number)

    def batch(self, number: int | None = None) -> Batch:
        """Read a proposed round's batch back from the ledger; the latest one where no number is given."""
        return verbs.batch(self, number)

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
        return verbs.export(self, out, number=number, exporters=exporters)

    def pick(self, path: Path | str, *, arm: str, by: str = "", wells: int | None = None) -> HandPicked:
        """Let designs that a person chose become an arm of the next plate, see `labloop.rounds.by_hand.pick`.

        Raises:
            DesignError: rows that cannot be made or are known already; nothing was stored.
        """
        return by_hand.pick(self, path, arm=arm, by=by, wells=wells)

    def withdraw(self, arm: str, *, by: str = "", reason: str = "") -> HandPicked:
        """Take the list of a person's arm back, as long as it is on no plate."""
        return by_hand.withdraw(self, arm, by=by, reason=reason)

    def veto(self, well: str, *, reason: str, by: str = "") -> Vetoed:
        """Take the design of a well (`PLATE:WELL`) out of a plate that is not exported yet; its arm's next choice comes in.

        Raises:
            CampaignError: there is no such well, it holds no design, the files were exported, or no reason is given.
        """
        return veto(self, well, reason=reason, by=by)

    def plan(self, config: RoundConfig | Path | str | None = None, *, worth: float | None = None) -> Outlook:
        """Tell what the next plate can show of its arms and gain over the best known, see `labloop.rounds.outlook`.

        Args:
            worth: the smallest gain, in y, that is worth another plate.
        """
        return outlook(self, config, worth=worth)

    def close(self, number: int | None = None, *, reason: str | None = None) -> Comparison | None:
        """Close a measured round with its comparison. Wells without a result need a reason; they may be proposed again.

        Returns:
            The comparison of the arms; None where no well of the round has a value.

        Raises:
            CampaignError: wells are missing and no reason is given.
        """
        return verbs.close(self, number, reason=reason)

    # ---- by itself

    def step(self) -> Step:
        """Advance by at most one action, as the campaign's `schedule` says, and tell what was done or what is waited for.

        What is done is in the ledger, so that the step may be killed at any moment and run again by anyone.
        """
        return step(self)

    def approve(self, *, by: str = "", reason: str = "") -> int:
        """Approve the proposed round's plate, see `labloop.campaign.approval`; returns the round's number."""
        return approve(self, by=by, reason=reason)

    def reject(self, *, reason: str, by: str = "") -> int:
        """Reject the proposed round's plate: the round closes, another takes its place; returns the rejected round's number."""
        return reject(self, reason=reason, by=by)

    # ---- what came of it

    def compare(self, number: int | Literal["all"] | None = None) -> Comparison:
        """Compare the arms of one round (the latest that has results, where no number is given), or over `all` rounds.

        One round speaks of its plates; from the third round on `all` has a verdict on the arms.

        Raises:
            CampaignError: no well of a round has been measured yet.
        """
        return compare_rounds(self) if number == "all" else compare_round(self, number)

    def fronts(self) -> Fronts | None:
        """Compare the arms by what their wells added to the hypervolume; None with one objective, or before a round."""
        return compare_properties(self, self.dataset())

    def report(self, path: Path | str | None = None) -> Path:
        """Write the campaign's report, one self-contained HTML page; into the campaign's folder where no path is given."""
        from labloop.report import report_of, write_report  # drawing loads when a page is written

        return write_report(Path(path) if path else self.folder / "report.html", report_of(self))

    def quality(self) -> Inspection:
        """Tell what quality control finds on every plate, which readings it flags, and what became of them."""
        return inspect(self)

    def audit(self, what: str) -> Audit:
        """Tell who did what and when with a well (`PLATE:WELL`) or a design (its id), from the proposal to the value.

        Raises:
            CampaignError: there is none of this name; the message names the nearest.
        """
        return audit(self, what)

    def predict(
        self, designs: Path | str | pd.DataFrame, *, config: RoundConfig | Path | str | None = None
    ) -> Predictions:  # fmt: skip
        """Ask the judge about designs of a file or a table; nothing in the ledger changes, see `labloop.rounds.predict`."""
        return predict(self, designs, config=config)

    def why(self, what: str) -> Why:
        """Tell why the design of a well (`PLATE:WELL`), or of an id, was picked, in a sentence and in plain values."""
        return why(self, what)

    def insight(
        self, *, config: RoundConfig | Path | str | None = None, fits: int = FITS, property: str | None = None
    ) -> Insight:  # fmt: skip
        """Tell what the judge looks at, and whether it can be trusted, from several fits; see `labloop.proposing.insight`."""
        return insight(self, config=config, fits=fits, property=property)

    def status(self) -> dict[str, Any]:
        """Tell where the campaign stands and what comes next, as plain values."""
        return state.standing(self)

    def state(self, number: int) -> RoundState | None:
        """Tell a round's state; None where it has not been opened."""
        return state.round_state(self, number)
