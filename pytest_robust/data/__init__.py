"""(x, y) ~ D: the user's data, whatever form it comes in, as labelled examples with content ids."""

from pytest_robust.data.examples import Examples
from pytest_robust.data.loading import load
from pytest_robust.data.subset import stratified

__all__ = ["Examples", "load", "stratified"]
