"""Options and ini keys that say what to check, their precedence, and that a typo stops the session at once."""

from __future__ import annotations

import fake_engine
import pytest
from projects import Run

SILENT = "def test_a(robust): robust(Fake(), 0)\n"
NAMED = "@pytest.mark.robust('l2', 0.5, min_accuracy=0.2, n=50)\ndef test_a(robust): robust(Fake(), 0)\n"


def summaries() -> list[str]:
    return [str(call.threat.summary()) for call in fake_engine.CALLS]


def test_eps_parametrises_checks_that_name_none(run: Run):
    result = run(SILENT, "--robust-eps", "2/255,8/255", "--robust-eps=0.5", "-v")
    result.assert_outcomes(passed=3)
    result.stdout.fnmatch_lines([f"test_it.py::test_a[[]linf-{eps}] PASSED*" for eps in ("2/255", "8/255", "0.5")])
    assert summaries() == ["linf 2/255", "linf 8/255", "linf 0.5"]


def test_equal_budgets_run_once(run: Run):
    run(SILENT, "--robust-eps", "1/2,0.5").assert_outcomes(passed=1)


def test_checks_that_name_a_budget_keep_it(run: Run):
    run(NAMED, "--robust-eps", "2/255,8/255", "--robust-norm", "linf", "--robust-n", "7").assert_outcomes(passed=1)
    assert summaries() == ["l2 0.5"]
    assert fake_engine.CALLS[0].n == 50


def test_force_puts_the_command_line_first(run: Run):
    options = ("--robust-eps", "2/255,8/255", "--robust-norm", "linf", "--robust-n", "7", "--robust-fail-under", "90%")
    result = run(NAMED, *options, "--robust-force")
    result.assert_outcomes(failed=2)
    assert summaries() == ["linf 2/255", "linf 8/255"]
    assert [(call.n, float(call.min_accuracy)) for call in fake_engine.CALLS] == [(7, 0.9)] * 2


def test_force_wins_over_the_call(run: Run):
    source = (
        "from pytest_robust import L0, Linf\n"
        "def test_a(robust):\n"
        "    robust(Fake(), 0, eps=3, norm='l1', seed=1, attacks='pgd', profile='release', device='cpu')\n"
        "    robust(Fake(), 0, Linf(0.1, mask='m'))\n"
        "    robust(Fake(), 0, L0(2))\n"
    )
    options = ("--robust-eps=1", "--robust-attack=fgsm", "--robust-profile=smoke", "--robust-device=cuda:1")
    run(source, *options, "--robust-seed=9", "--robust-force").assert_outcomes(passed=1)
    assert summaries() == ["l1 1", "linf 1", "l0 1"]
    assert fake_engine.CALLS[1].threat.mask == "m"
    call = fake_engine.CALLS[0]
    assert (call.seed, call.attacks, call.profile, call.device) == (9, ["fgsm"], "smoke", "cuda:1")


def test_force_changes_the_norm_of_a_threat_unless_it_has_a_mask(run: Run):
    source = (
        "from pytest_robust import Linf\n"
        "def test_a(robust): robust(Fake(), 0, Linf(0.1, bounds=None))\n"
        "def test_b(robust): robust(Fake(), 0, Linf(0.1, mask='m'))\n"
    )
    result = run(source, "--robust-norm", "l2", "--robust-force")
    result.assert_outcomes(passed=1, failed=1)
    assert (summaries(), fake_engine.CALLS[0].threat.bounds) == (["l2 0.1"], None)
    result.stdout.fnmatch_lines(["*--robust-force cannot change the norm of a threat with a mask*"])


TRANSFORM = "from pytest_robust import Spatial\ndef test_a(robust): robust(Fake(), 0, Spatial(30, 0.1), min_accuracy=0.2)\n"


def test_force_has_no_budget_for_a_transform(run: Run):
    for option in ("--robust-eps=8/255", "--robust-norm=l2"):
        result = run(TRANSFORM, option, "--robust-force")
        result.assert_outcomes(failed=1)
        result.stdout.fnmatch_lines(["*--robust-force cannot put a norm or an eps in place of spatial 30deg,0.1*"])
    run(TRANSFORM, "--robust-n=7", "--robust-force").assert_outcomes(passed=1)
    assert (summaries(), fake_engine.CALLS[0].n) == (["spatial 30deg,0.1"], 7)


def test_a_transform_in_a_test_that_the_run_gives_a_budget_is_called_what_it_is(run: Run):
    result = run(TRANSFORM, "--robust-eps=8/255")
    result.assert_outcomes(passed=1, warnings=1)
    result.stdout.fnmatch_lines(["*the id says linf 8/255, as the run asks; the call asked for spatial 30deg,0.1*"])
    result.stdout.fnmatch_lines(["test_a?linf-8/255?  spatial 30deg,0.1 *"])


def test_a_marker_and_a_transform_are_two_threats(run: Run):
    result = run(TRANSFORM.replace("def", "@pytest.mark.robust(eps=0.1)\ndef"))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*the marker says linf 0.1, the call asks for spatial 30deg,0.1*"])


def test_norm_profile_attack_n_and_seed_reach_the_engine(run: Run):
    options = ("--robust-norm=l2", "--robust-profile=smoke", "--robust-attack=fgsm,pgd", "--robust-n=12", "--robust-seed=5")
    result = run(SILENT, "--robust-eps=1", *options)
    call = fake_engine.CALLS[0]
    assert (call.profile, call.attacks, call.n, call.seed) == ("smoke", ["fgsm", "pgd"], 12, 5)
    assert summaries() == ["l2 1"]
    result.stdout.fnmatch_lines(["robust: l2 1, profile smoke, n=12, seed 5", "*smoke: no evidence*"])


def test_fail_under_is_the_floor_of_checks_without_one(run: Run):
    source = SILENT + "def test_b(robust): robust(Fake(), 0, min_accuracy=0.3)\n"
    result = run(source, "--robust-eps=8/255", "--robust-fail-under", "40%")
    result.assert_outcomes(failed=1, passed=1)
    result.stdout.fnmatch_lines(["E *assert robust accuracy 31.0% >= 40.0% (linf 8/255,*"])


def test_confidence_goes_with_a_floor_only_and_the_call_is_asked_first(run: Run):
    source = """
def test_floor(robust): robust(Fake(60), 0, min_accuracy=0.4)
def test_call(robust): robust(Fake(60), 0, min_accuracy=0.4, confidence="90%")
def test_none(robust): robust(Fake(60), 0)
"""
    run(source, "--robust-eps=1", "--robust-confidence=0.99").assert_outcomes(passed=3)
    assert [call.confidence for call in fake_engine.CALLS] == [0.99, 0.9, None]


@pytest.mark.parametrize(
    "source",
    [
        "def test_b(robust): robust(Fake(), 0, min_accuracy={'2/255': 0.3})\n",
        "@pytest.mark.robust(eps=['2/255', '8/255'], min_accuracy={'2/255': 0.3})\ndef test_b(robust): robust(Fake(), 0)\n",
    ],
    ids=["call", "marker"],
)
def test_fail_under_holds_for_a_budget_that_a_mapping_leaves_out(run: Run, source):
    result = run(source, "--robust-eps=2/255,8/255", "--robust-fail-under=0.4")
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["E *assert robust accuracy 31.0% >= 40.0% (linf 8/255,*"])
    assert [call.stop_early for call in fake_engine.CALLS] == [True, False]
    run(source, "--robust-eps=2/255,8/255").stdout.fnmatch_lines(
        ["test_b?linf-8/255? *report only (no floor for linf 8/255)"]
    )


def test_device_comes_from_call_option_environment(run: Run, monkeypatch):
    source = SILENT.replace("0)", "0, eps=1)")
    run(source)
    monkeypatch.setenv("PYTEST_ROBUST_DEVICE", "mps")
    run(source)
    run(source, "--robust-device", "cuda:1")
    run(source.replace("eps=1", "eps=1, device='cpu'"), "--robust-device", "cuda:1")
    assert [call.device for call in fake_engine.CALLS] == ["auto", "mps", "cuda:1", "cpu"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--robust-eps", "8//255"], "--robust-eps: eps: '8//255' is not a number"),
        (["--robust-eps", "1,,2"], "--robust-eps: an empty item in '1,,2'"),
        (["--robust-eps=-1"], "--robust-eps: eps must not be negative"),
        (["--robust-n", "many"], "--robust-n: 'many' is not an integer"),
        (["--robust-n", "0"], "--robust-n: the number of examples must be at least 1"),
        (["--robust-seed=-1"], "--robust-seed: a seed must not be negative"),
        (["--robust-confidence", "0.01"], "--robust-confidence: a confidence lies between 0.5 and 1, *did you mean 0.99[?]"),
        (["--robust-fail-under", "40"], "--robust-fail-under: *did you mean '40%'?"),
        (["--robust-device", "gpu"], "--robust-device: 'gpu' is not one of auto, cpu, cuda"),
        (["--robust-attack", "agpd"], "--robust-attack: no attack is called 'agpd'; known: *"),
        (["--robust-report", "x.pdf"], "--robust-report 'x.pdf': the suffix says the format, use .json, .md, .html"),
        (["--robust-model", "a:b"], "--robust-model needs --robust-data as well"),
        (["--robust-model", "a", "--robust-data", "a:b"], "--robust-model 'a': write PKG:ATTR*"),
    ],
)
def test_wrong_option_exits_4_before_anything_runs(run: Run, arguments, complaint):
    result = run(SILENT + "def test_b(): pass\n", *arguments)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {complaint}*"])
    assert fake_engine.CALLS == []


@pytest.mark.parametrize("option", ["--robust-norm", "--robust-profile"])
def test_wrong_choice_exits_4(run: Run, option):
    result = run(SILENT, option, "l3")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["*invalid choice: 'l3'*"])


INI = {
    "robust_eps": ('"4/255 8/255"', '["4/255", "8/255"]'),
    "robust_norm": ('"l2"', '"l2"'),
    "robust_profile": ('"release"', '"release"'),
    "robust_attacks": ('"fgsm pgd"', '["fgsm", "pgd"]'),
    "robust_n": ("12", "12"),
    "robust_seed": ("5", "5"),
    "robust_fail_under": ("0.25", "0.25"),
    "robust_confidence": ("0.9", '"90%"'),
}


def form(native: bool) -> str:
    if native and pytest.version_tuple < (9,):
        pytest.skip("[tool.pytest] came with pytest 9")
    return "[tool.pytest]" if native else "[tool.pytest.ini_options]"


@pytest.mark.parametrize("native", [False, True], ids=["text", "native"])
def test_ini_keys_in_both_forms(run: Run, project, native):
    lines = [f"{key} = {values[native]}" for key, values in INI.items()]
    project.makepyprojecttoml("\n".join([form(native), *lines]))
    run(SILENT, "--strict-config").assert_outcomes(passed=2)
    assert summaries() == ["l2 4/255", "l2 8/255"]
    call = fake_engine.CALLS[0]
    assert (call.profile, call.attacks, call.n, call.seed) == ("release", ["fgsm", "pgd"], 12, 5)
    assert (float(call.min_accuracy), call.confidence) == (0.25, 0.9)


@pytest.mark.parametrize("native", [False, True], ids=["text", "native"])
@pytest.mark.parametrize("value", ["'50%'", "'1/2'", "0.5"])
def test_floor_in_the_ini_file_is_written_as_in_the_option(run: Run, project, native, value):
    project.makepyprojecttoml(f"{form(native)}\nrobust_fail_under = {value}")
    run(SILENT, "--robust-eps=1").assert_outcomes(failed=1)
    assert float(fake_engine.CALLS[0].min_accuracy) == 0.5


def test_budgets_in_the_ini_file_may_be_numbers(run: Run, project):
    project.makepyprojecttoml("[tool.pytest.ini_options]\nrobust_eps = [0.01, 2]")
    run(SILENT).assert_outcomes(passed=2)
    assert summaries() == ["linf 0.01", "linf 2"]


def test_command_line_wins_over_ini(run: Run, project):
    project.makepyprojecttoml("[tool.pytest.ini_options]\nrobust_eps = '8/255'\nrobust_n = 12\nrobust_seed = 4")
    run(SILENT, "--robust-eps=1/255", "--robust-n=3").assert_outcomes(passed=1)
    assert (summaries(), fake_engine.CALLS[0].n, fake_engine.CALLS[0].seed) == (["linf 1/255"], 3, 4)


@pytest.mark.parametrize(
    ("native", "line", "complaint"),
    [
        (False, "robust_n = 'many'", "ini option robust_n: *"),
        (True, "robust_n = 'many'", "ini option robust_n: *expects an int*"),
        (True, "robust_eps = '8/255'", "ini option robust_eps: *expects a list*"),
        (False, "robust_norm = 'l3'", "ini option robust_norm: 'l3' is not one of linf, l2, l1, l0, characters"),
        (False, "robust_profile = 'quick'", "ini option robust_profile: 'quick' is not one of smoke, standard, release"),
        (False, "robust_eps = '8//255'", "ini option robust_eps: eps: '8//255' is not a number*"),
        (False, "robust_fail_under = 40.0", "ini option robust_fail_under: *lies in [[]0, 1]*"),
        (False, "robust_attacks = ['agpd']", "ini option robust_attacks: no attack is called 'agpd'*"),
        (False, "robust_attacks = [1]", "ini option robust_attacks: no attack is called '1'*"),
        (False, "robust_eps = [[0.1]]", "ini option robust_eps: eps: '[[]0.1]' is not a number*"),
        (True, "robust_eps = [0.1]", "ini option robust_eps: *expects a list of strings*"),
        (True, "robust_fail_under = [0.4]", "ini option robust_fail_under: *expects a string*"),
    ],
)
def test_wrong_ini_value_exits_4_before_anything_runs(run: Run, project, native, line, complaint):
    project.makepyprojecttoml(f"{form(native)}\n{line}")
    result = run(SILENT)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: {complaint}"])


def test_wrong_device_in_the_environment_exits_4(run: Run, monkeypatch):
    monkeypatch.setenv("PYTEST_ROBUST_DEVICE", "gpu")
    result = run(SILENT)
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines(["ERROR: environment variable PYTEST_ROBUST_DEVICE: 'gpu' is not one of *"])


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("robust_device", "*--robust-device, or the environment variable PYTEST_ROBUST_DEVICE"),
        ("robust_min_accuracy", "did you mean robust_fail_under[?]"),
    ],
)
def test_ini_key_that_one_may_expect(run: Run, project, key, hint):
    project.makepyprojecttoml(f"[tool.pytest.ini_options]\n{key} = 'x'")
    result = run(SILENT, "--strict-config")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"ERROR: pyproject.toml: there is no ini option {key}; {hint}"])


def test_several_budgets_need_the_fixture_as_an_argument(run: Run):
    result = run("def test_a(request): request.getfixturevalue('robust')(Fake(), 0)\n", "--robust-eps=1,2")
    run("def test_a(request): request.getfixturevalue('robust')(Fake(), 0)\n", "--robust-eps=1").assert_outcomes(passed=1)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*several budgets (1, 2) need a test that takes the fixture robust as an argument*"])
