"""Telling images of the network's own data set from those of another one by its outputs alone.

A detector gives each image a score that should be larger for the network's own test images; how well it separates the
two sets is counted over all thresholds, without choosing one. Throughout, the network's own data set (`in`) is the
positive class. Two of the numbers depend on that, and AUPR on the ratio of the sets' sizes as well.

Shapes: S samples, M members, K classes. Rates are fractions.
"""

import torch
from torch import Tensor

from mixmo_fast.evaluation.metrics import Ensemble, check_logits, ensemble_logits
from mixmo_fast.runfolder.evaluated import Detector, ForeignSet


def detect(dataset: str, in_logits_SMK: Tensor, out_logits_SMK: Tensor, ensemble: Ensemble = "logits") -> ForeignSet:
    """How well a network's outputs tell another data set from its own.

    Args:
        dataset: The other's name.
        in_logits_SMK: Of the network's own test images, S x M x K, floating, finite.
        out_logits_SMK: Of the other's images; as many members and classes, any number of samples.
        ensemble: What of the members is averaged.

    Raises:
        ValueError: On other shapes or dtypes, an empty set, or logits that are not finite.
    """
    if in_logits_SMK.shape[1:] != out_logits_SMK.shape[1:]:
        found = f"{tuple(in_logits_SMK.shape)} and {tuple(out_logits_SMK.shape)}"
        raise ValueError(f"both sets must have the same members and classes, found {found}")
    pairs = zip(detector_scores(in_logits_SMK, ensemble), detector_scores(out_logits_SMK, ensemble), strict=True)
    detectors = tuple(separation(name, scores, other_scores) for (name, scores), (_, other_scores) in pairs)
    return ForeignSet(dataset=dataset, images=len(out_logits_SMK), detectors=detectors)


@torch.no_grad()
def detector_scores(logits_SMK: Tensor, ensemble: Ensemble = "logits") -> tuple[tuple[str, Tensor], ...]:
    """The detectors' scores of each image, larger where it looks like the network's own data.

    `max_probability`: the ensemble's confidence (Hendrycks and Gimpel, arXiv 1610.02136). `entropy`: minus the
    entropy of its prediction, in nats. `energy`: logsumexp of the members' mean logits, minus the energy of Liu et al.,
    arXiv 2010.03759, at temperature 1; of the logits whatever `ensemble` says, as those of mean probabilities have a
    logsumexp of 0. `disagreement`, where M > 1: minus the mutual information of prediction and member, which is the
    entropy of the members' mean probabilities less the mean of their entropies, and also the mean divergence
    KL(member || mean) that Lakshminarayanan et al., arXiv 1612.01474, sum over the members.

    Args:
        logits_SMK: S x M x K, floating, finite.
        ensemble: What of the members is averaged.

    Returns:
        Name and float64 (S,) of each.

    Raises:
        ValueError: On other shapes or dtypes, an empty set, or logits that are not finite.
    """
    check_logits(logits_SMK)
    log_probabilities = ensemble_logits(logits_SMK, ensemble).log_softmax(dim=1)
    scores = [
        ("max_probability", log_probabilities.amax(dim=1).exp()),
        ("entropy", (log_probabilities.exp() * log_probabilities).sum(dim=1)),
        ("energy", ensemble_logits(logits_SMK, "logits").logsumexp(dim=1)),
    ]
    if logits_SMK.shape[1] > 1:
        log_members = logits_SMK.double().log_softmax(dim=2)
        log_mean = ensemble_logits(logits_SMK, "probabilities")[:, None]
        # As a divergence, not as a difference of entropies, which cancels where the members agree.
        divergence = (log_members.exp() * (log_members - log_mean)).sum(dim=2).mean(dim=1)
        scores.append(("disagreement", -divergence))
    return tuple(scores)


def separation(name: str, in_scores_S: Tensor, out_scores_S: Tensor) -> Detector:
    """Counts how well scores separate two sets, by scikit-learn, for which equal scores are one threshold.

    Args:
        name: The detector's.
        in_scores_S: Of the network's own images (any number), floating; larger means more like them.
        out_scores_S: Of the other images (any number).
    """
    from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

    scores = torch.cat([in_scores_S, out_scores_S]).double().cpu().numpy()
    is_in = torch.arange(len(scores)).numpy() < len(in_scores_S)
    # Dropping points between which the curve is straight would drop the one that is asked for.
    false_positives, true_positives, _ = roc_curve(is_in, scores, drop_intermediate=False)
    return Detector(
        name=name,
        auroc=float(roc_auc_score(is_in, scores)),
        fpr95=float(false_positives[(true_positives >= 0.95).argmax()]),
        aupr=min(1.0, float(average_precision_score(is_in, scores))),  # a sum that rounding can take beyond 1
    )
