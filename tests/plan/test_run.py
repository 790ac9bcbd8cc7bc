from __future__ import annotations

from factories.records import make_run

from benchmark.plan.recipes import load
from benchmark.plan.run import NEUTRAL


def test_settings_that_came_later_are_named_only_where_they_change_something() -> None:
    def digest(*changes: str) -> str:
        return make_run("cmnist_99", "poisoner", *changes).digest

    same = digest()
    for neutral in ("balance=0", "poisoner.warmup_epochs=0", "poisoner.strata=clean"):
        assert digest(neutral) == same
    changed = [digest("balance=0.2"), digest("poisoner.warmup_epochs=1"), digest("poisoner.strata=poisoned")]
    assert len({same, *changed}) == 4
    texts = ("balance=0.2", "poisoner.gamma=0.5", "poisoner.strata=poisoned")
    settings = make_run("cmnist_99", "poisoner", *texts).settings
    assert settings["balance"] == 0.2
    assert set(load().changes(settings)) == {load().parse_override(text) for text in texts}


def test_settings_are_complete_whatever_their_values_and_the_digest_alone_leaves_out_neutral_ones() -> None:
    run = make_run("cmnist_99", "poisoner", "learning_rate_decay=1.0", "poisoner.differentiated=neither")
    assert {key: (run.settings | run.settings["options"])[key] for key in NEUTRAL} == NEUTRAL
    before = {key: value for key, value in run.settings.items() if key not in NEUTRAL}
    before["options"] = {key: value for key, value in run.settings["options"].items() if key not in NEUTRAL}
    assert type(run)(before, 0).digest == run.digest, "the record that was stored before they existed"


def test_the_digest_covers_exactly_what_changes_the_numbers() -> None:
    def digest(method: str, *changes: str) -> str:
        return make_run("cmnist_99", method, *changes).digest

    assert digest("vanilla") == digest("erm"), "Table 3's ERM is Table 2's Vanilla"
    assert digest("vanilla") == digest("vanilla", "poisoner.gamma=0.5"), "another method's option changes nothing"
    assert digest("vanilla") == digest("vanilla", "epochs=30"), "stating the default changes nothing"
    different = {digest("poisoner"), digest("poisoner", "poisoner.gamma=0.5"), digest("poisoner", "epochs=31")}
    different |= {digest("poisoner", "data.ratio=0.97"), digest("poisoner", "mean=[0.5, 0.5, 0.5]")}
    assert len(different) == 5
