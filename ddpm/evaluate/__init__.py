"""Measure models: bits per dimension and sample quality. Importing this package does not load torch."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ddpm.evaluate.options import EvaluateConfig

if TYPE_CHECKING:
    from ddpm.checkpoint import Checkpoint

__all__ = ["EvaluateConfig", "evaluate"]


def evaluate(config: EvaluateConfig, model: Checkpoint | None = None) -> dict[str, Any]:
    """Measure a model and return the report; see `ddpm.evaluate.measure.evaluate`."""
    from ddpm.evaluate import measure

    return measure.evaluate(config, model)
