"""How much do the visible words tell of the artist? `python -m embedded.words_probe` (a minute) prints it.

Multinomial logistic regression names the family from the words alone: first colour, second colour, outline, shading, each one-hot. It is fitted
on the pairs that are not held out and asked about those that are: about single drawings, and about five of one family
together, whose log-probabilities are added up (each family's held-out drawings in groups of five, by a fixed shuffle).
"""

import torch
from torch import Tensor
from torch.nn import functional

from embedded.artist_drawings import ArtistDrawings, describe_all, load_artist_drawings
from embedded.summaries import summarise
from embedded.visible_words import COLOURS, OUTLINES, SHADINGS, Words

WEIGHT_PENALTY = 1e-3  # of the squared weights
GROUP_SIZE = 5  # drawings, the items that the method retrieves by default


def encode_words(words: list[Words]) -> Tensor:
    """Give a row of zeros and ones for each drawing's words, with a one for the intercept."""
    slots = ((COLOURS, lambda seen: seen.colours[0]), (COLOURS, lambda seen: (*seen.colours, None)[1]))
    slots += ((OUTLINES, lambda seen: seen.outline), (SHADINGS, lambda seen: seen.shading))
    return torch.tensor([[1.0] + [float(read(seen) == word) for choices, read in slots for word in choices] for seen in words])


def fit_probe(inputs: Tensor, families: Tensor) -> Tensor:
    """Fit the weights (input, family); the loss is convex, so that nothing is left to chance."""
    weights = torch.zeros(inputs.shape[1], int(families.max()) + 1, requires_grad=True)
    optimiser = torch.optim.LBFGS([weights], max_iter=200, line_search_fn="strong_wolfe")

    def compute_loss() -> Tensor:
        optimiser.zero_grad()
        loss = functional.cross_entropy(inputs @ weights, families) + WEIGHT_PENALTY * weights.square().sum()
        loss.backward()
        return loss

    optimiser.step(compute_loss)
    return weights.detach()


def split_into_groups(families: Tensor) -> list[Tensor]:
    """Shuffle each family's rows and cut them into groups; what is left over is in none."""
    generator = torch.Generator().manual_seed(0)
    rows = [torch.nonzero(families == family).flatten() for family in families.unique()]
    shuffled = [own[torch.randperm(len(own), generator=generator)] for own in rows]
    return [group for own in shuffled for group in own.split(GROUP_SIZE) if len(group) == GROUP_SIZE]


def measure_probe(drawings: ArtistDrawings, words: list[list[Words]]) -> dict[str, Tensor]:
    """Say of each held-out drawing, and of each group of five, whether the words tell its family."""
    seen, held = drawings.list_pairs(held_out=False), drawings.list_pairs(held_out=True)
    known, asked = (encode_words([words[thing][family] for thing, family in rows.tolist()]) for rows in (seen, held))
    scores = (asked @ fit_probe(known, seen[:, 1])).log_softmax(dim=1)
    groups = split_into_groups(held[:, 1])
    together = torch.stack([scores[group].sum(dim=0).argmax() == held[group[0], 1] for group in groups])
    return {"artist_from_words": scores.argmax(dim=1) == held[:, 1], "artist_from_words_of_five": together}


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    drawings = load_artist_drawings()
    for key, right in measure_probe(drawings, describe_all(drawings)).items():
        print(key, summarise(right.float()))


if __name__ == "__main__":
    main()
