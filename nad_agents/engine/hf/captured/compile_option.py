"""What the engine's option `compile` gives a model: captured steps, the model's own, or an error."""

from __future__ import annotations

import logging
from typing import Literal

from transformers import PreTrainedModel

from nad_agents.engine.hf.batch_recorder import BatchRecorder
from nad_agents.engine.hf.captured.captured_steps import CapturedSteps
from nad_agents.engine.hf.captured.graphs import graphs_for
from nad_agents.engine.hf.captured.step_capture import Forward
from nad_agents.engine.hf.captured.support import capture_obstacle
from nad_agents.exceptions import ConfigurationError, UnsupportedModelError

__all__ = ["captured_steps"]

_logger = logging.getLogger(__name__)


def captured_steps(
    model: PreTrainedModel,
    forward: Forward,
    recorder: BatchRecorder,
    *,
    compile: Literal["auto"] | bool,  # noqa: A002 - the engine's option has this name
    name: str,
    shares_prompts: bool,
) -> CapturedSteps | None:
    """Return what captures a model's decoding steps; None if the model is to take all of them itself.

    The first call for a model may run it on two tokens, so it must not be made while the model generates.

    Args:
        model: The model.
        forward: Runs the model.
        recorder: Knows the model's feed-forward blocks.
        compile: "auto" captures where that is possible; True requires it, False never does it.
        name: The model's name, for messages.
        shares_prompts: Whether the candidates of a request attend to one copy of its prompt.

    Raises:
        ConfigurationError: `compile` is True, and the model is on a device that has no graphs.
        UnsupportedModelError: `compile` is True, and the model's steps cannot be captured.
    """
    if not compile:
        return None
    required = compile is True
    if graphs_for(model.device) is None:
        if required:
            msg = f"compile=True captures CUDA graphs, and {name} is on {model.device}; leave it out"
            raise ConfigurationError(msg)
        return None
    obstacle = capture_obstacle(model)
    if not obstacle and not shares_prompts:
        obstacle = "its candidates keep their prompts in another cache"
    if obstacle and required:
        msg = f"the steps of {name} cannot be captured, as compile=True requires: {obstacle}; leave it out"
        raise UnsupportedModelError(msg)
    if obstacle:
        _logger.info("the steps of %s are not captured: %s", name, obstacle)
        return None
    return CapturedSteps(model, forward, recorder, required=required)
