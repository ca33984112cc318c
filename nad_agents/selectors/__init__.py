"""Selectors rank the candidates of one prompt by agreement, sparsity, confidence or votes.

`get_selector` makes a selector by name, and `rank` turns its scores into a ranking. Each family of selectors has a
file; `nad_agents.selectors.base` states the conventions that all of them follow.
"""

from __future__ import annotations

from nad_agents.selectors.agreement import DBSCAN, KNN, AgreementSelector, Medoid
from nad_agents.selectors.assertions import B4, CodeT
from nad_agents.selectors.auto import Auto
from nad_agents.selectors.base import (
    Scores,
    Selector,
    SelectorBase,
    content_order,
    mean_logprob,
    rank,
)
from nad_agents.selectors.baselines import First, Random
from nad_agents.selectors.behaviour import Behaviour, BehaviourGroups
from nad_agents.selectors.confidence import (
    DeepConf,
    Entropy,
    MeanLogprob,
    SelfCertainty,
    Shortest,
    TailEntropy,
)
from nad_agents.selectors.consensus import ConsensusMin, Copeland
from nad_agents.selectors.fusion import NADFusion
from nad_agents.selectors.nex import NEX
from nad_agents.selectors.observations import BehaviourObserver
from nad_agents.selectors.registry import (
    ENTRY_POINT_GROUP,
    CallableSelector,
    available_selectors,
    check_candidates,
    check_recorder,
    get_selector,
    register_selector,
)
from nad_agents.selectors.self_evaluation import PTrue, SelfVerify
from nad_agents.selectors.sparsity import MinAct, MinActPerToken, MinActResidual
from nad_agents.selectors.voting import Majority

__all__ = [
    "B4",
    "DBSCAN",
    "ENTRY_POINT_GROUP",
    "KNN",
    "NEX",
    "AgreementSelector",
    "Auto",
    "Behaviour",
    "BehaviourGroups",
    "BehaviourObserver",
    "CallableSelector",
    "CodeT",
    "ConsensusMin",
    "Copeland",
    "DeepConf",
    "Entropy",
    "First",
    "Majority",
    "MeanLogprob",
    "Medoid",
    "MinAct",
    "MinActPerToken",
    "MinActResidual",
    "NADFusion",
    "PTrue",
    "Random",
    "Scores",
    "Selector",
    "SelectorBase",
    "SelfCertainty",
    "SelfVerify",
    "Shortest",
    "TailEntropy",
    "available_selectors",
    "check_candidates",
    "check_recorder",
    "content_order",
    "get_selector",
    "mean_logprob",
    "rank",
    "register_selector",
]
