"""The schedule, and the rates and decays that reach each parameter."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lru.errors import UserError
from lru.training.optimizer import (
    Group,
    OptimizerSettings,
    format_table,
    make_optimizer,
)

ROWS = ((r"mixer/(nu_log|B_re)$", 0.5, 0.0), (r".*", 1.0, 0.05))
PARAMS = {
    "blocks_0": {"mixer": {"nu_log": jnp.ones(3), "B_re": jnp.ones((3, 2)), "D": jnp.ones(2)}},
    "head": {"kernel": jnp.ones((2, 2))},
}


def optimizer_of(steps, **settings):
    return make_optimizer(PARAMS, steps, OptimizerSettings(**settings))


def schedule_of(learning_rate, steps, **settings):
    return optimizer_of(steps, learning_rate=learning_rate, groups=ROWS, **settings)[1]


def test_warm_up_is_linear_from_1e_7_over_a_tenth_of_the_steps():
    rate = schedule_of(1e-2, 1000)
    steps = np.arange(101)
    want = 1e-7 + (1e-2 - 1e-7) * steps / 100
    np.testing.assert_allclose([rate(step) for step in steps], want, rtol=1e-5, atol=1e-9)


def test_cosine_counts_from_the_end_of_the_warm_up_to_the_last_step():
    rate = schedule_of(1e-2, 1000)
    steps = np.arange(100, 1001, 50)
    want = 1e-7 + (1e-2 - 1e-7) * (1 + np.cos(np.pi * (steps - 100) / 900)) / 2
    np.testing.assert_allclose([rate(step) for step in steps], want, rtol=1e-4, atol=1e-9)


def test_the_rate_never_jumps():
    rates = np.array([schedule_of(1.0, 200)(step) for step in range(201)])
    assert abs(np.diff(rates)).max() <= 1 / 20 + 1e-6


def test_a_warm_up_of_all_steps_ends_at_the_peak():
    rate = schedule_of(1e-2, 10, warmup_fraction=1.0)
    np.testing.assert_allclose([rate(5), rate(10)], [0.5e-2, 1e-2], rtol=1e-4)


def test_a_schedule_without_warm_up_starts_at_the_peak():
    assert schedule_of(1e-2, 100, warmup_fraction=0.0)(0) == pytest.approx(1e-2)


def make(groups_of=ROWS, **options):
    return optimizer_of(
        100, learning_rate=1e-2, groups=groups_of, **{"warmup_fraction": 0.0} | options
    )


def test_each_group_equals_an_adamw_with_its_rate_and_decay():
    optimizer, _, _ = make()
    grads = jax.tree.map(lambda p: jnp.full_like(p, 0.3), PARAMS)
    state, params = optimizer.init(PARAMS), PARAMS
    for _ in range(3):
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
    for factor, decay, path in ((0.5, 0.0, ("blocks_0", "mixer", "nu_log")),
                                (1.0, 0.05, ("blocks_0", "mixer", "D")),
                                (1.0, 0.05, ("head", "kernel"))):  # fmt: skip
        leaf, got = PARAMS, params
        for name in path:
            leaf, got = leaf[name], got[name]
        alone = optax.adamw(
            schedule_of(1e-2 * factor, 100, warmup_fraction=0.0), weight_decay=decay
        )
        want, alone_state = leaf, alone.init(leaf)
        for _ in range(3):
            update, alone_state = alone.update(jnp.full_like(leaf, 0.3), alone_state, want)
            want = want + update
        np.testing.assert_allclose(got, want, rtol=1e-6)


def test_the_learning_rate_of_the_config_reaches_every_group():
    def first_update(rate):
        optimizer, _, _ = optimizer_of(100, learning_rate=rate, groups=ROWS, warmup_fraction=0.0)
        grads = jax.tree.map(jnp.ones_like, PARAMS)
        return optimizer.update(grads, optimizer.init(PARAMS), PARAMS)[0]

    slow, fast = first_update(1e-3), first_update(2e-3)
    jax.tree.map(lambda s, f: np.testing.assert_allclose(f, 2 * s, rtol=1e-5), slow, fast)


def test_a_constant_rate_is_constant_in_every_group():
    rows = ((r"mixer/", 0.5, 0.0), (r".*", 1.0, 0.0))
    options = dict(learning_rate=2e-3, end_learning_rate=2e-3, warmup_fraction=0.0)
    optimizer, schedule, _ = optimizer_of(10, groups=rows, **options)
    grads, state = jax.tree.map(jnp.ones_like, PARAMS), optimizer.init(PARAMS)
    for step in range(10):  # Adam's update of a gradient that never changes is the rate
        updates, state = optimizer.update(grads, state, PARAMS)
        assert schedule(step) == pytest.approx(2e-3)
        np.testing.assert_allclose(updates["head"]["kernel"], -2e-3, rtol=1e-4)
        np.testing.assert_allclose(updates["blocks_0"]["mixer"]["D"], -1e-3, rtol=1e-4)


def test_the_table_shows_every_parameter_once():
    _, _, table = make()
    assert [(g.arrays, g.parameters) for g in table] == [(2, 9), (2, 6)]
    assert [g.peak_rate for g in table] == [0.5e-2, 1e-2]
    lines = format_table(table).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[1].split()[1:] == ["0.005", "0", "2", "9"]
    assert lines[-1].split() == ["total", "4", "15"]


def test_the_table_names_the_parameters_of_a_long_pattern_and_fits_80_columns():
    lru = {name: jnp.ones((2_000, 2_000)) for name in ("nu_log", "theta_log", "gamma_log", "B_re")}
    params = {"blocks_0": {"mixer": lru | {"D": jnp.ones(2)}}, "head": {"kernel": jnp.ones((2, 2))}}
    long = r"mixer/(A|B|a|b|nu|theta|nu_log|theta_log|gamma_log|B_re|B_im|Lambda_re|Lambda_im)$"
    rows = ((long, 0.25, 0.0), (r".*", 1.0, 0.05))
    options = OptimizerSettings(learning_rate=1.25e-5, groups=rows)
    lines = format_table(make_optimizer(params, 10, options)[2]).splitlines()
    assert lines[1].startswith("B_re, gamma_log, nu_log, theta_log  ")
    assert lines[2].startswith("all others  ")
    assert max(map(len, lines)) <= 80
    many = Group(long, 0.1, 0.0, 9, 9, tuple(f"parameter_{i}" for i in range(9)))
    assert max(map(len, format_table([many]).splitlines())) <= 80


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (ROWS[:1], "blocks_0/mixer/D matches no row"),
        ((("mixr/", 0.5, 0.0), *ROWS), "'mixr/' that matches no parameter"),
        ((("(", 0.5, 0.0), *ROWS), "expected (regex, learning rate factor, weight decay)"),
        ((("a", 0.5),), "expected (regex, learning rate factor, weight decay)"),
        (((".*", -0.5, 0.0),), "a number is negative or not finite"),
        (((".*", 1.0, 0.0), (".*", 0.5, 0.0)), "'.*' that matches no parameter"),
    ],
)
def test_rows_that_do_not_fit_raise(rows, words):
    with pytest.raises(UserError) as error:
        optimizer_of(10, learning_rate=1.0, groups=rows)
    assert words in str(error.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("learning_rate", 0.0), ("learning_rate", -1.0), ("learning_rate", float("nan")),
        ("warmup_fraction", 1.5), ("b1", 2.0), ("b1", 1.0), ("b2", -0.1), ("b2", 1.0),
        ("eps", -1.0), ("eps", 0.0),
        ("end_learning_rate", 1.0),
    ],
)  # fmt: skip
def test_options_out_of_range_raise(name, value):
    with pytest.raises(UserError, match=f"config.optimizer.{name} is {value}; expected"):
        optimizer_of(100, groups=ROWS, **{"learning_rate": 1e-2} | {name: value})


def test_a_factor_of_zero_freezes_its_group():
    rows = ((r"mixer/", 0.0, 0.05), (r".*", 1.0, 0.05))
    optimizer, _, _ = optimizer_of(100, learning_rate=1e-2, groups=rows)
    grads = jax.tree.map(jnp.ones_like, PARAMS)
    updates, _ = optimizer.update(grads, optimizer.init(PARAMS), PARAMS)
    assert not any(leaf.any() for leaf in jax.tree.leaves(updates["blocks_0"]))
    assert updates["head"]["kernel"].all()


def test_b1_b2_and_eps_reach_adam():
    """Compares three steps with the formulas of Adam in float64."""
    b1, b2, eps, rate = 0.6, 0.8, 0.25, 1e-2
    options = dict(b1=b1, b2=b2, eps=eps, end_learning_rate=rate)
    optimizer, _, _ = make(groups_of=((".*", 1.0, 0.0),), **options)
    state, params = optimizer.init(PARAMS), PARAMS
    want, mean, square = 1.0, 0.0, 0.0
    for step, gradient in enumerate((0.3, -0.7, 2.0), start=1):
        grads = jax.tree.map(lambda p, g=gradient: jnp.full_like(p, g), PARAMS)
        updates, state = optimizer.update(grads, state, params)
        params = optax.apply_updates(params, updates)
        mean, square = b1 * mean + (1 - b1) * gradient, b2 * square + (1 - b2) * gradient**2
        want -= rate * mean / (1 - b1**step) / (np.sqrt(square / (1 - b2**step)) + eps)
    np.testing.assert_allclose(params["head"]["kernel"], want, rtol=1e-5)


def test_every_group_starts_and_ends_at_the_same_rate_and_has_its_own_peak():
    rows = ((r"mixer/", 0.25, 0.0), (r".*", 1.0, 0.0))
    options = dict(end_learning_rate=1e-4, warmup_fraction=0.2)
    optimizer, _, _ = make(groups_of=rows, **options)
    grads, state, rates = jax.tree.map(jnp.ones_like, PARAMS), optimizer.init(PARAMS), []
    update = jax.jit(optimizer.update)
    for _ in range(101):  # Adam's update of a gradient that never changes is the rate
        updates, state = update(grads, state, PARAMS)
        slow, fast = updates["blocks_0"]["mixer"]["D"][0], updates["head"]["kernel"][0, 0]
        rates.append((-slow, -fast))
    for step, want in ((0, (1e-4, 1e-4)), (20, (0.25e-2, 1e-2)), (100, (1e-4, 1e-4))):
        np.testing.assert_allclose(rates[step], want, rtol=1e-3)
