"""pytest-robust: assert the adversarial robustness of models in pytest.

Names are imported on first use (PEP 562), so that loading the pytest plugin never imports torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pytest_robust.attacks import (
        APGD,
        CW,
        EAD,
        FGSM,
        GCG,
        JSMA,
        LBFGS,
        PGD,
        SPSA,
        VAT,
        DeepFool,
        EditSearch,
        HopSkipJump,
        HotFlip,
        Noise,
        RelaxedPGD,
        SimplexPGD,
        Square,
        Sweep,
    )
    from pytest_robust.budget import Budget
    from pytest_robust.data import Examples
    from pytest_robust.errors import EvidenceError, ModelError, PreflightError, RobustError, ThreatError
    from pytest_robust.evaluation import Curve, Evaluation, Outcomes, Rate, compare, curve, evaluate
    from pytest_robust.evaluation.fluctuation import fluctuation
    from pytest_robust.evaluation.means import Fluctuation
    from pytest_robust.evaluation.units import units
    from pytest_robust.models import TextFunction, adapt
    from pytest_robust.models.causal import CausalLM
    from pytest_robust.models.passages import Passages
    from pytest_robust.models.retrieval import Retriever, RetrieverFunction
    from pytest_robust.models.translation import Translator
    from pytest_robust.models.translator_function import TranslatorFunction
    from pytest_robust.objectives import Targeted, Untargeted
    from pytest_robust.pytest_plugin.fixture import Robust
    from pytest_robust.pytest_plugin.outcome import RobustWarning
    from pytest_robust.regression import Comparison
    from pytest_robust.retraining import Adversary, Retrained, retrain
    from pytest_robust.store.witness import Witness, load_witness
    from pytest_robust.threats import (
        L0,
        L1,
        L2,
        CharacterEdits,
        EmbeddingBall,
        LatentBall,
        Linf,
        Negation,
        Photometric,
        Spatial,
        Suffix,
        WordEdits,
    )

_HOMES = {
    "attacks": (
        "APGD",
        "CW",
        "EAD",
        "FGSM",
        "GCG",
        "JSMA",
        "LBFGS",
        "PGD",
        "SPSA",
        "VAT",
        "DeepFool",
        "EditSearch",
        "HopSkipJump",
        "HotFlip",
        "Noise",
        "RelaxedPGD",
        "SimplexPGD",
        "Square",
        "Sweep",
    ),
    "budget": ("Budget",),
    "data": ("Examples",),
    "errors": ("EvidenceError", "ModelError", "PreflightError", "RobustError", "ThreatError"),
    "evaluation": ("Curve", "Evaluation", "Outcomes", "Rate", "compare", "curve", "evaluate"),
    "evaluation.units": ("units",),
    "evaluation.fluctuation": ("fluctuation",),
    "evaluation.means": ("Fluctuation",),
    "models": ("TextFunction", "adapt"),
    "models.causal": ("CausalLM",),
    "models.passages": ("Passages",),
    "models.retrieval": ("Retriever", "RetrieverFunction"),
    "models.translation": ("Translator",),
    "models.translator_function": ("TranslatorFunction",),
    "objectives": ("Targeted", "Untargeted"),
    "pytest_plugin.fixture": ("Robust",),
    "pytest_plugin.outcome": ("RobustWarning",),
    "regression": ("Comparison",),
    "retraining": ("Adversary", "Retrained", "retrain"),
    "store.witness": ("Witness", "load_witness"),
    "threats": (
        "CharacterEdits",
        "EmbeddingBall",
        "L0",
        "L1",
        "L2",
        "LatentBall",
        "Linf",
        "Negation",
        "Photometric",
        "Spatial",
        "Suffix",
        "WordEdits",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [
    "APGD", "CW", "EAD", "FGSM", "GCG", "JSMA", "L0", "L1", "L2", "LBFGS", "PGD", "SPSA", "VAT", "Adversary", "Budget",
    "CausalLM", "CharacterEdits", "Comparison", "Curve", "DeepFool", "EditSearch", "EmbeddingBall", "Evaluation",
    "EvidenceError", "Examples", "Fluctuation", "HopSkipJump", "HotFlip", "LatentBall", "Linf", "ModelError", "Negation",
    "Noise", "Outcomes", "Passages", "Photometric", "PreflightError", "Rate", "RelaxedPGD", "Retrained", "Retriever",
    "RetrieverFunction", "Robust", "RobustError", "RobustWarning", "SimplexPGD", "Spatial", "Square", "Suffix", "Sweep",
    "Targeted", "TextFunction", "ThreatError", "Translator", "TranslatorFunction", "Untargeted", "Witness", "WordEdits",
    "adapt", "compare", "curve", "evaluate", "fluctuation", "load_witness", "retrain", "units",
]  # fmt: skip
__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'pytest_robust' has no attribute {name!r}")
    return getattr(import_module(f"pytest_robust.{_HOME_OF[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
