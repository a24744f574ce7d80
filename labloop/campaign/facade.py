"""The façade: one object for everything that a lab does with a campaign; each method is a verb of the rooms below.

A verb is a function whose first argument is the campaign's memory, so it is a method as it stands: its arguments, and what it
raises, are said where it is defined. Every verb can be run again: what is finished is read from the ledger, never done twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Self

from labloop.assays.ingest import Explanation, ReadOptions
from labloop.assays.quality import report as quality_report
from labloop.campaign import approval
from labloop.campaign import step as stepping
from labloop.compare.campaigns import Across
from labloop.compare.hypervolume import Fronts
from labloop.compare.results import Comparison
from labloop.config.campaign import CampaignConfig
from labloop.ledger.memory import Memory, open_ledger, stored_config
from labloop.proposing.dataset import Dataset
from labloop.rounds import audit as auditing
from labloop.rounds import by_hand, insights, intake, outlook, related, state, training, verbs
from labloop.rounds import predict as predicting
from labloop.rounds import veto as vetoing
from labloop.rounds import why as reasons
from labloop.rounds.correction import Corrected
from labloop.rounds.intake import Receipt
from labloop.rounds.outcome import compare_campaigns, compare_properties, compare_round, compare_rounds
from labloop.rounds.revision import checked, revise
from labloop.rounds.tidy import tidy, write_tidy


class Campaign(Memory):
    """A campaign in a ledger: its memory, with every verb as a method. Make one with `Campaign.create` or `Campaign.open`."""

    @classmethod
    def create(cls, config: CampaignConfig | Path | str, *, home: Path | str | None = None, ledger: str | None = None) -> Self:
        """Start a campaign from its configuration, or from the YAML file that holds it.

        Args:
            home: folder of ledger and reports; `$LABLOOP_HOME`, else `labloop-data` here.
            ledger: database URL; `$LABLOOP_LEDGER`, else a SQLite file in `home`.

        Raises:
            ConfigError: the file does not make sense, or a campaign of its history has other columns.
            CampaignError: a campaign of this name exists.
        """
        config = checked(config)
        place, opened = open_ledger(home, ledger, create=True)
        related.check(config, opened, place)
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

    def revise(self, config: CampaignConfig | Path | str, *, reason: str, dry_run: bool = False) -> list[str]:
        """Replace the configuration from now on; rounds that are open keep the one that they were opened with.

        All measurements stay usable: what is no longer allowed is kept in the dataset and never proposed.

        Args:
            reason: why, which the ledger keeps.
            dry_run: check it and tell what would change; nothing is stored.

        Returns:
            What changed, one sentence each; nothing where the configuration is this one already.

        Raises:
            ConfigError: name, objective or columns change, or a design of the campaign would be lost or become another.
            CampaignError: there is no reason.
        """
        self.config, told = revise(self, config, reason=reason, dry_run=dry_run)
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
        name: str | None = None,
    ) -> Receipt:
        """Read a file of the lab, check all of it, and append it to the ledger in one transaction; known bytes change nothing.

        Args:
            read: which read to take, where a plate reader's file holds several: `450`.
            plates: the plate that it shows, where the file does not say, or pairs `Plate 1=NAME`.
            reader: the reader to use, where several know the file.
            again: its readings were measured anew, although some equal those that the ledger has.
            name: what the file is called, where that is not its path's name.

        Raises:
            IngestError: with every faulty cell, or with the rows that the ledger has already; nothing was stored.
        """
        options = ReadOptions(assay=assay, read=read, plates=plates, reader=reader, again=again, name=name)
        return intake.ingest(self, Path(path), options, dry_run=dry_run)

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
        name: str | None = None,
    ) -> Corrected:
        """Read a corrected file and let its readings supersede those that stand of the same wells; see `correct`.

        Rows that say what stands are left out. Both readings stay in the ledger, with the reason.

        Raises:
            IngestError: a row matches no reading, or it cannot be told which; nothing was stored.
        """
        options = ReadOptions(assay=assay, read=read, plates=plates, reader=reader, name=name)
        return intake.correct(self, path, options, reason=reason, dry_run=dry_run)

    def explain(
        self,
        path: Path | str,
        *,
        assay: str | None = None,
        read: str | None = None,
        plates: Sequence[str] = (),
        reader: str | None = None,
        name: str | None = None,
    ) -> Explanation:
        """Tell what `ingest` would make of a file; nothing is stored, and a refusal is told, not raised."""
        options = ReadOptions(assay=assay, read=read, plates=plates, reader=reader, name=name)
        return intake.explain(self, path, options)

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

    propose = verbs.propose
    ensure_round = verbs.ensure_round
    trainings = training.trainings
    ensure_trained = training.ensure_trained
    train_all = training.train_all
    drop_training = training.drop_training
    ensure_proposed = verbs.ensure_proposed
    batch = verbs.batch
    export = verbs.export
    close = verbs.close

    # ---- what people decide

    plan = outlook.outlook
    pick = by_hand.pick
    withdraw = by_hand.withdraw
    veto = vetoing.veto
    approve = approval.approve
    reject = approval.reject

    # ---- by itself

    step = stepping.step

    # ---- what came of it

    def status(self) -> dict[str, Any]:
        """Tell where the campaign stands, as `labloop status --json` does, see `labloop.rounds.state.standing`."""
        told = state.standing(self)
        return told | ({"next": asked} if (asked := stepping.asked(self)) else {})

    state = state.round_state
    quality = quality_report.inspect
    audit = auditing.audit
    predict = predicting.predict
    why = reasons.why
    insight = insights.insight

    def compare(self, number: int | Literal["all"] | None = None) -> Comparison:
        """Compare the arms of one round (the latest that has results, where no number is given), or over `all` rounds.

        One round speaks of its plates; from the third round on `all` has a verdict on the arms.

        Raises:
            CampaignError: no well of a round has been measured yet.
        """
        return compare_rounds(self) if number == "all" else compare_round(self, number)

    def compare_with(self, *others: Campaign) -> Across:
        """Compare the arms over this campaign and others, each of which counts once: what one campaign's rounds cannot tell.

        Raises:
            CampaignError: a campaign stands there twice, has another objective, or no measured wells.
        """
        return compare_campaigns([self, *others])

    def fronts(self) -> Fronts | None:
        """Compare the arms by what their wells added to the hypervolume; None with one objective, or before a round."""
        return compare_properties(self, self.dataset())

    def report(self, path: Path | str | None = None, *, why: bool = False) -> Path:
        """Write the campaign's report, one self-contained HTML page; into the campaign's folder where no path is given.

        Args:
            why: look into the judge first, as `insight` does; the page shows it.
        """
        from labloop.report import report_of, write_report  # drawing loads when a page is written

        if why:
            self.insight()
        return write_report(Path(path) if path else self.folder / "report.html", report_of(self))
