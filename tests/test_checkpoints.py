"""Trainings that go on where they stopped, and rounds that start from an earlier round's model."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="torch is not installed: pip install 'labloop-toolkit[models]'")

from labloop.campaign.facade import Campaign  # noqa: E402
from labloop.config import CampaignConfig, parse_config  # noqa: E402
from labloop.errors import LabloopError  # noqa: E402
from labloop.methods import braid, coms, gtg  # noqa: E402
from labloop.runtime.artifacts import Artifacts  # noqa: E402
from labloop.runtime.checkpoints import folder_of, keeping  # noqa: E402
from labloop.testing import TOY_SPACES, toy_data  # noqa: E402

BRAID = {
    "hidden": (16,), "reward_steps": 20, "width": 8, "depth": 1, "prior_steps": 20, "steps": 4, "grad_steps": 2,
    "iterations": 4, "batch_size": 16, "n_samples": 64, "heads": 2,
}  # fmt: skip
GTG = {
    "n_traj": 16, "horizon": 8, "k": 8, "dim": 8, "dim_mults": (1, 2), "steps": 8, "batch_size": 16, "proxies": 2,
    "proxy_hidden": (16,), "proxy_steps": 20, "context": 4, "sampling_steps": 3, "n_samples": 64,
}  # fmt: skip
METHODS = {
    "coms": (coms.COMs(hidden_sizes=(16,), min_steps=20, epochs=1), ["networks"]),
    "gtg": (gtg.GTG(**GTG), ["denoiser", "proxies"]),
    "braid": (braid.BRAID(**BRAID), ["policy", "prior", "reward"]),
    "braid_bonus": (braid.BRAIDBonus(**BRAID), ["policy", "prior", "reward"]),
}


@pytest.fixture
def data():
    return toy_data(TOY_SPACES["sequence"])


class Stop(Exception):
    """What a power cut is to a training."""


class Breaking(Artifacts):
    """A place where all goes well until one stage has been written."""

    def write(self, name: str, content: bytes) -> None:
        super().write(name, content)
        raise Stop


@pytest.mark.parametrize("name", METHODS)
def test_a_training_that_broke_off_after_every_stage_ends_as_one_that_did_not(name, data, tmp_path):
    proposer, stages = METHODS[name]
    whole = proposer.propose(data, 16, seed=3)
    for _ in stages:
        with pytest.raises(Stop), keeping(Breaking(tmp_path)):
            proposer.propose(data, 16, seed=3)
    assert sorted(path.stem for path in tmp_path.rglob("*.safetensors")) == stages
    with keeping(tmp_path):
        again = proposer.propose(data, 16, seed=3)
    assert again.ids == whole.ids
    np.testing.assert_array_equal(again.score, whole.score)
    assert sorted(str(again.notes["resumed"]).split(", ")) == stages
    assert "resumed" not in whole.notes


def test_another_dataset_option_or_seed_takes_up_nothing(data, tmp_path):
    proposer, _ = METHODS["coms"]
    with keeping(tmp_path):
        proposer.propose(data, 4, seed=0)
        others = [
            proposer.propose(toy_data(TOY_SPACES["sequence"], 50), 4, seed=0),
            coms.COMs(hidden_sizes=(16,), min_steps=21, epochs=1).propose(data, 4, seed=0),
            proposer.propose(data, 4, seed=1),
        ]
    assert all("resumed" not in pool.notes for pool in others)


def test_a_changed_file_of_unlabelled_designs_is_another_training(data, tmp_path):
    path = tmp_path / "library.csv"
    path.write_text("dna\nACGTAC\n")
    proposer = braid.BRAID(**BRAID, unlabelled=path)
    before = folder_of(proposer, data.fingerprint, 0)
    path.write_text("dna\nACGTAA\n")
    assert folder_of(proposer, data.fingerprint, 0) != before


@pytest.mark.parametrize("damage", [lambda content: content[:40], lambda content: b"", lambda content: b"\xff" * 64])
def test_a_damaged_checkpoint_is_told_and_made_again(damage, data, tmp_path, caplog):
    proposer, _ = METHODS["coms"]
    with keeping(tmp_path):
        whole = proposer.propose(data, 4, seed=0)
        (path,) = tmp_path.rglob("*.safetensors")
        path.write_bytes(damage(path.read_bytes()))
        with caplog.at_level(logging.WARNING):
            again = proposer.propose(data, 4, seed=0)
    assert again.ids == whole.ids
    assert "resumed" not in again.notes
    assert "networks.safetensors cannot be read" in caplog.text


@pytest.mark.parametrize(
    ("cold", "warm", "steps"),
    [
        (gtg.GTG(**GTG), gtg.GTG(**GTG, warm_start=0.5), ("denoiser_steps", 4)),
        (braid.BRAID(**BRAID), braid.BRAID(**BRAID, warm_start=0.5), ("prior_steps", 10)),
    ],
)
def test_a_warm_start_takes_fewer_steps_from_the_earlier_rounds_model(cold, warm, steps, data, tmp_path, caplog):
    name, fewer = steps
    later = toy_data(TOY_SPACES["sequence"], 80)
    with keeping(tmp_path):
        first = cold.propose(data, 8, seed=0)
    with keeping(tmp_path, ("nowhere", folder_of(cold, data.fingerprint, 0))):
        second = warm.propose(later, 8, seed=1)
    assert second.notes[name] == fewer == first.notes[name] / 2
    with caplog.at_level(logging.WARNING), keeping(tmp_path):
        alone = warm.propose(toy_data(TOY_SPACES["sequence"], 90), 8, seed=1)
    assert alone.notes[name] == first.notes[name]
    assert "no earlier round kept a" in caplog.text


def test_a_campaigns_round_resumes_and_its_next_round_starts_warm(tfbind8_config: CampaignConfig, tmp_path):
    from labloop.studies.demo import begin, measure_plate
    from labloop.studies.simulate import open_lab

    lab = open_lab("tfbind8")
    run = begin(tmp_path, campaign=tfbind8_config, lab=lab, start=60)
    proposers = {"braid": {**BRAID, "hidden": [16], "warm_start": 0.5}}
    config = parse_config({"arms": {"offline": {"proposers": proposers}}, "judge": "fakes:Flat"}, type(_round()))
    number = run.ensure_round(config)
    (key,) = run.trainings(number)
    run.artifacts = Breaking(run.folder / "models")
    for _ in range(3):
        with pytest.raises(Stop):
            run.ensure_trained(number, key)
    assert run.ledger.runs(run.name).empty
    run = Campaign.open(run.name, home=tmp_path)
    run.propose(config, out=tmp_path / "out")
    run.ingest(measure_plate(run, lab, tmp_path / "out", tmp_path / "back", number=1))
    run.propose(config)
    first, second = run.ledger.runs(run.name)["notes"]
    assert sorted(first["resumed"].split(", ")) == ["policy", "prior", "reward"]
    assert (first["prior_steps"], second["prior_steps"]) == (20, 10)


def _round():
    from labloop.config.round import RoundConfig

    return RoundConfig(arms={"a": {"proposers": "random"}})


# ---- places


def test_a_url_keeps_files_as_a_folder_does():
    pytest.importorskip("fsspec")
    here, elsewhere = Artifacts("memory://labloop-test"), Artifacts("memory://labloop-test")
    assert here.read("a/b.bin") is None
    here.write("a/b.bin", b"one")
    here.write("a/b.bin", b"two")
    assert elsewhere.read("a/b.bin") == b"two"
    assert not [name for name in here._files.find("/labloop-test") if name.endswith(".tmp")]


def test_a_place_that_cannot_be_is_named(tmp_path):
    pytest.importorskip("fsspec")
    with pytest.raises(LabloopError, match=r"nosuch://place: is no place for artifacts"):
        Artifacts("nosuch://place")
    (tmp_path / "file").write_text("")
    with pytest.raises(LabloopError, match=r"file/models.*cannot be"):
        Artifacts(tmp_path / "file" / "models").write("a", b"")


def test_the_environment_names_a_place_that_machines_share(tfbind8_config: CampaignConfig, tmp_path, monkeypatch):
    run = Campaign.create(tfbind8_config, home=tmp_path)
    assert Path(run.artifacts.place) == run.folder / "models"
    monkeypatch.setenv("LABLOOP_ARTIFACTS", "memory://shared/")
    assert Campaign.open(run.name, home=tmp_path).artifacts.place == f"memory://shared/{run.name}"
