"""The diffusion core against closed forms and against an independent implementation (diffusers, for tests only)."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from labloop.methods import _diffusion as diffusion
from labloop.methods._diffusion import NoiseSchedule

SCHEDULES = {"cosine": NoiseSchedule.cosine(200), "linear": NoiseSchedule.linear(1000), "short": NoiseSchedule.cosine(8)}


@pytest.fixture(params=sorted(SCHEDULES))
def schedule(request: pytest.FixtureRequest) -> NoiseSchedule:
    return SCHEDULES[request.param]


def draw(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def other_implementation():
    """The independent implementation; it takes seconds to import, so that only whoever compares with it does."""
    return pytest.importorskip("diffusers", reason="the independent implementation is not installed")


def theirs(kind: str, schedule: NoiseSchedule, **options: object):
    cls = getattr(other_implementation(), kind)
    made = cls(num_train_timesteps=len(schedule), trained_betas=schedule.betas.tolist(), clip_sample=False, **options)
    # diffusers keeps float32 levels: give it ours, so that a difference is one of formula and not of rounding.
    made.alphas_cumprod = torch.cumprod(1 - schedule.betas, 0)
    made.final_alpha_cumprod = torch.tensor(1.0, dtype=torch.float64)
    made.alphas = 1 - schedule.betas
    made.betas = schedule.betas
    return made


# ---- schedules


def test_levels_fall_strictly_from_almost_one_to_almost_nothing(schedule: NoiseSchedule) -> None:
    x = torch.zeros(1)
    levels = torch.stack([schedule.alpha_bar(t, x) for t in range(-1, len(schedule))])
    assert levels.dtype == torch.float64
    assert levels[0] == 1
    assert (levels.diff() < 0).all()
    assert levels[-1] < 1e-3
    assert ((schedule.betas > 0) & (schedule.betas <= 0.999)).all()


def test_cosine_levels_are_the_squared_cosine_until_the_clip() -> None:
    schedule, x = SCHEDULES["cosine"], torch.zeros(1)
    for t in (0, 10, 100, 198):
        level = [math.cos((u / 200 + 0.008) / 1.008 * math.pi / 2) ** 2 for u in (0, t + 1)]
        assert float(schedule.alpha_bar(t, x)) == pytest.approx(level[1] / level[0], rel=1e-12)
    assert float(schedule.betas[-1]) == 0.999


@pytest.mark.parametrize(("name", "theirs_name"), [("cosine", "squaredcos_cap_v2"), ("linear", "linear")])
def test_betas_agree_with_diffusers(name: str, theirs_name: str) -> None:
    ours = SCHEDULES[name]
    other = other_implementation().DDPMScheduler(num_train_timesteps=len(ours), beta_schedule=theirs_name)
    torch.testing.assert_close(ours.betas.float(), other.betas, rtol=2e-6, atol=1e-9)


def test_times_visited_start_at_the_last_end_at_the_first_and_never_repeat(schedule: NoiseSchedule) -> None:
    assert schedule.times(len(schedule)) == list(range(len(schedule) - 1, -1, -1))
    assert schedule.times(10 * len(schedule)) == schedule.times(len(schedule))
    for steps in (1, 2, 5):
        times = schedule.times(steps)
        assert len(set(times)) == steps
        assert times[0] == len(schedule) - 1
        assert times == sorted(times, reverse=True)


# ---- forward


def test_noised_samples_have_the_stated_mean_and_variance(schedule: NoiseSchedule) -> None:
    x0 = torch.full((200_000,), 1.5, dtype=torch.float64)
    for t in (0, len(schedule) // 2, len(schedule) - 1):
        level = float(schedule.alpha_bar(t, x0))
        x = diffusion.q_sample(schedule, x0, t, draw(len(x0), seed=t))
        assert x.mean().item() == pytest.approx(1.5 * math.sqrt(level), abs=0.01)
        assert x.var().item() == pytest.approx(1 - level, rel=0.02)


def test_q_sample_agrees_with_diffusers(schedule: NoiseSchedule) -> None:
    x0, noise, t = draw(6, 4, 3), draw(6, 4, 3, seed=1), torch.arange(6)
    ours = diffusion.q_sample(schedule, x0, t, noise)
    torch.testing.assert_close(ours, theirs("DDPMScheduler", schedule).add_noise(x0, noise, t), rtol=1e-12, atol=1e-12)


def test_the_two_ways_to_say_a_prediction_are_inverse(schedule: NoiseSchedule) -> None:
    x0, noise, t = draw(8, 5), draw(8, 5, seed=1), torch.arange(8)
    x = diffusion.q_sample(schedule, x0, t, noise)
    torch.testing.assert_close(diffusion.x0_from_eps(schedule, x, t, noise), x0, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(diffusion.eps_from_x0(schedule, x, t, x0), noise, rtol=1e-6, atol=1e-6)


def test_v_prediction_agrees_with_diffusers_and_trusts_x_where_noise_is_low(schedule: NoiseSchedule) -> None:
    x0, noise, t = draw(8, 5), draw(8, 5, seed=1), torch.arange(8)
    x = diffusion.q_sample(schedule, x0, t, noise)
    v = theirs("DDIMScheduler", schedule).get_velocity(x0, noise, t)
    torch.testing.assert_close(diffusion.x0_from_v(schedule, x, t, v), x0, rtol=1e-9, atol=1e-9)
    if len(schedule) >= 200:
        torch.testing.assert_close(diffusion.x0_from_v(schedule, x, 0, torch.zeros_like(x)), x, rtol=1e-3, atol=1e-3)


def test_a_times_tensor_and_a_number_mean_the_same(schedule: NoiseSchedule) -> None:
    x, x0, noise = draw(4, 3, 2), draw(4, 3, 2, seed=1), draw(4, 3, 2, seed=2)
    t = torch.full((4,), 5)
    for one, other in (
        (diffusion.q_sample(schedule, x0, 5, noise), diffusion.q_sample(schedule, x0, t, noise)),
        (diffusion.ddpm_step(schedule, x, 5, x0, noise), diffusion.ddpm_step(schedule, x, t, x0, noise)),
        (diffusion.ddim_step(schedule, x, 5, 2, x0, noise), diffusion.ddim_step(schedule, x, t, t - 3, x0, noise)),
    ):
        torch.testing.assert_close(one, other)


# ---- reverse


def test_step_variance_is_the_posterior_of_ddpm(schedule: NoiseSchedule) -> None:
    x = torch.zeros(1)
    for t in range(len(schedule)):
        before = float(schedule.alpha_bar(t - 1, x))
        beta = (1 - before) / (1 - float(schedule.alpha_bar(t, x))) * float(schedule.betas[t])
        assert float(diffusion.step_variance(schedule, t, t - 1, x)) == pytest.approx(beta, rel=1e-9, abs=1e-15)
    assert float(diffusion.step_variance(schedule, 0, -1, x)) == 0


@pytest.mark.parametrize("t", [7, 4, 1])
def test_ddpm_step_agrees_with_diffusers(schedule: NoiseSchedule, t: int) -> None:
    x, eps = draw(5, 3), draw(5, 3, seed=1)
    other = theirs("DDPMScheduler", schedule).step(eps, t, x, generator=torch.Generator().manual_seed(3)).prev_sample
    noise = torch.randn(5, 3, generator=torch.Generator().manual_seed(3), dtype=x.dtype)
    ours = diffusion.ddpm_step(schedule, x, t, diffusion.x0_from_eps(schedule, x, t, eps), noise)
    torch.testing.assert_close(ours, other, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("eta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("clip", [False, True], ids=["free", "clipped"])
def test_ddim_step_agrees_with_diffusers(eta: float, clip: bool) -> None:
    schedule = SCHEDULES["cosine"]
    other = theirs("DDIMScheduler", schedule)
    other.set_timesteps(20)
    x, eps, noise = draw(5, 3), draw(5, 3, seed=1), draw(5, 3, seed=2)
    for t in (190, 100, 10):
        x0 = diffusion.x0_from_eps(schedule, x, t, eps)
        if clip:
            x0 = x0.clamp(-0.3, 0.3)
            eps_given = diffusion.eps_from_x0(schedule, x, t, x0)
        else:
            eps_given = eps
        stepped = other.step(eps_given, t, x, eta=eta, variance_noise=noise).prev_sample
        ours = diffusion.ddim_step(schedule, x, t, t - 10, x0, noise, eta=eta)
        torch.testing.assert_close(ours, stepped, rtol=1e-6, atol=1e-6)


def test_ddim_with_eta_one_between_neighbours_is_ddpm(schedule: NoiseSchedule) -> None:
    x, x0, noise = draw(5, 3), draw(5, 3, seed=1), draw(5, 3, seed=2)
    for t in range(0, len(schedule), 7):
        torch.testing.assert_close(
            diffusion.ddim_step(schedule, x, t, t - 1, x0, noise, eta=1.0), diffusion.ddpm_step(schedule, x, t, x0, noise)
        )


def test_float32_steps_stay_near_float64_ones(schedule: NoiseSchedule) -> None:
    x, x0, noise = draw(64, 3), draw(64, 3, seed=1), draw(64, 3, seed=2)
    for t in range(0, len(schedule), 7):
        wide = diffusion.ddpm_step(schedule, x, t, x0, noise)
        narrow = diffusion.ddpm_step(schedule, x.float(), t, x0.float(), noise.float())
        assert narrow.dtype == torch.float32
        torch.testing.assert_close(narrow.double(), wide, rtol=1e-5, atol=1e-5)


def gaussian_denoiser(schedule: NoiseSchedule, mean: float, std: float):
    """The best possible prediction where clean samples are N(mean, std²), by conditioning of joint Gaussians."""

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        level = schedule.alpha_bar(t, x).to(x.dtype)
        return mean + level.sqrt() * std**2 / (level * std**2 + 1 - level) * (x - level.sqrt() * mean)

    return denoise


@pytest.mark.parametrize(
    ("eta", "steps", "tolerance"), [(1.0, 200, 0.05), (0.0, 200, 0.05), (0.0, 40, 0.1)], ids=["ancestral", "ddim", "ddim-40"]
)
def test_the_optimal_denoiser_recovers_a_gaussian(eta: float, steps: int, tolerance: float) -> None:
    schedule = SCHEDULES["cosine"]
    x = diffusion.sample(
        schedule, gaussian_denoiser(schedule, 0.7, 0.2), draw(4_000, 1), steps=steps, eta=eta,
        generator=torch.Generator().manual_seed(1),
    )  # fmt: skip
    assert x.mean().item() == pytest.approx(0.7, abs=0.015)
    assert x.std().item() == pytest.approx(0.2, rel=tolerance)  # the rest is the solver's step


def test_without_noise_the_same_start_gives_the_same_sample_and_a_lower_temperature_a_narrower_one() -> None:
    schedule = SCHEDULES["cosine"]
    denoise, x = gaussian_denoiser(schedule, 0.0, 1.0), draw(2000, 1)

    def walk(start: Tensor, seed: int, **options: float) -> Tensor:
        return diffusion.sample(schedule, denoise, start, steps=20, generator=torch.Generator().manual_seed(seed), **options)

    torch.testing.assert_close(walk(x, 0), walk(x, 1))
    cold = walk(0.5 * x, 0, eta=1.0, temperature=0.5)
    assert cold.std() < 0.7 * walk(x, 0, eta=1.0).std()


# ---- steering


def test_guidance_weight_zero_ignores_one_obeys_and_more_exaggerates_the_condition() -> None:
    free, told = draw(3, 2), draw(3, 2, seed=1)
    torch.testing.assert_close(diffusion.classifier_free(free, told, 0.0), free)
    torch.testing.assert_close(diffusion.classifier_free(free, told, 1.0), told)
    torch.testing.assert_close(diffusion.classifier_free(free, told, 3.0) - told, 2 * (told - free))


def test_gradient_guidance_turns_the_prior_into_the_posterior() -> None:
    """N(0, 1) steered by ∇ log N(2 | x_t, 1 - ᾱ + …) must become the exact posterior of a Gaussian observation."""
    schedule = SCHEDULES["cosine"]
    prior = gaussian_denoiser(schedule, 0.0, 1.0)
    observed, noise_var = 2.0, 0.25

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        level = float(schedule.alpha_bar(int(t[0]), x))

        # For a standard normal prior x0 | x_t is N(√ᾱ·x_t, 1-ᾱ), so the observation's likelihood given x_t is known exactly.
        def likelihood(at: Tensor) -> Tensor:
            return (-((observed - math.sqrt(level) * at) ** 2) / (2 * (1 - level + noise_var))).sum(-1)

        eps = diffusion.eps_from_x0(schedule, x, t, prior(x, t))
        return diffusion.x0_from_eps(schedule, x, t, diffusion.gradient_guidance(schedule, x, t, eps, likelihood))

    x = diffusion.sample(schedule, denoise, draw(4_000, 1), steps=200, eta=1.0, generator=torch.Generator().manual_seed(1))
    assert x.mean().item() == pytest.approx(observed / (1 + noise_var), abs=0.04)
    assert x.var().item() == pytest.approx(noise_var / (1 + noise_var), rel=0.1)


def test_the_known_part_is_kept_through_sampling() -> None:
    schedule, known = SCHEDULES["cosine"], draw(16, 6)
    mask = torch.arange(6) < 2
    x = diffusion.sample(
        schedule, gaussian_denoiser(schedule, 0.0, 1.0), draw(16, 6, seed=1), steps=10,
        generator=torch.Generator().manual_seed(0), after=lambda x: diffusion.inpaint(x, known, mask),
    )  # fmt: skip
    torch.testing.assert_close(x[:, :2], known[:, :2])
    assert not torch.isclose(x[:, 2:], known[:, 2:]).any()


def test_gradients_flow_through_the_last_steps_only() -> None:
    schedule = SCHEDULES["short"]
    scale = torch.ones((), dtype=torch.float64, requires_grad=True)
    calls: list[bool] = []

    def denoise(x: Tensor, t: Tensor) -> Tensor:
        x0 = scale * x
        calls.append(x0.requires_grad)
        return x0

    x = diffusion.sample(schedule, denoise, draw(4, 2), steps=8, generator=torch.Generator().manual_seed(0), grad_last=3)
    assert calls == [False] * 5 + [True] * 3
    (slope,) = torch.autograd.grad(x.sum(), scale)
    assert slope != 0


# ---- networks


def test_weights_come_from_the_given_generator_and_leave_the_global_one_alone() -> None:
    def build(seed: int) -> dict[str, Tensor]:
        with torch.device("meta"):
            net = nn.Sequential(nn.Conv1d(4, 8, 5), nn.GroupNorm(2, 8), nn.ConvTranspose1d(8, 8, 4), nn.Linear(3, 2))
        return diffusion.initialise(net.to_empty(device="cpu"), torch.Generator().manual_seed(seed)).state_dict()

    before = torch.get_rng_state()
    one, same, other = build(0), build(0), build(1)
    assert torch.equal(before, torch.get_rng_state())
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["0.weight"], other["0.weight"])
    assert one["0.weight"].abs().max() <= 1 / math.sqrt(4 * 5)
    assert one["0.weight"].std().item() == pytest.approx(1 / math.sqrt(3 * 4 * 5), rel=0.2)
    assert (one["1.weight"] == 1).all()
    assert (one["1.bias"] == 0).all()


def test_running_average_of_weights_is_the_weighted_mean() -> None:
    net = nn.Linear(2, 1, bias=False)
    average = {"weight": torch.tensor([[1.0, 1.0]])}
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[3.0, 5.0]]))
    diffusion.ema_update(average, net, 0.75)
    torch.testing.assert_close(average["weight"], torch.tensor([[1.5, 2.0]]))
    diffusion.ema_update(average, net, 0.0)
    torch.testing.assert_close(average["weight"], net.weight.detach())


def test_time_features_tell_all_times_apart() -> None:
    features = diffusion.time_features(torch.arange(200), 16)
    assert features.shape == (200, 16)
    assert torch.pdist(features).min() > 0.01
