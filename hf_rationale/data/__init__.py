"""Rationale corpora, one module for each format, which are all read into the same columns.

Every split of every corpus has the columns `tokens` (`List[str]`, the words), `label` (`ClassLabel`) and `rationale`
(`List[int8]`, 0/1 for each word, or `None` if nobody marked the text). Corpora of pairs (multirc, fever) have one
more, `query` (`List[str]`): a first segment that is always read and never selected. Corpora of graphs (ba2motifs,
goodmotif, tu) have `features` (the features of each node) and `edge_index` (the two ends of each edge) in place of
`tokens`, and a mark for each node. Corpora of images (shapes_on_textures, waterbirds, cub) have `image` and a mask of
its size as `rationale`, both as [`~datasets.Image`], and the first two have `group` (the label and the background), by
which accuracy is measured.
"""

import os

from datasets import DatasetDict

from .aspect_reviews import ASPECT_REVIEWS, make_aspect_reviews
from .ba2motifs import BA2MOTIFS
from .beer import BEER
from .birds import CUB, WATERBIRDS
from .corpus import Corpus
from .eraser import FEVER, MOVIES, MULTIRC
from .goodmotif import GOODMOTIF
from .hotel import HOTEL
from .schema import MalformedDataError
from .shapes_on_textures import SHAPES_ON_TEXTURES
from .tu import TU
from .tweets import TWEETS


# A corpus that is registered here appears in the command line, on model cards and in the documents by itself.
CORPORA: dict[str, Corpus] = {
    corpus.name: corpus
    for corpus in (
        *(BEER, HOTEL, MOVIES, MULTIRC, FEVER, TWEETS, ASPECT_REVIEWS),
        *(BA2MOTIFS, GOODMOTIF, TU),
        *(SHAPES_ON_TEXTURES, WATERBIRDS, CUB),
    )
}


def load_rationale_dataset(
    name: str, data_dir: str | os.PathLike | None = None, aspect: str | int | None = None, **options
) -> DatasetDict:
    """Load a corpus for selective rationalization.

    Args:
        name (`str`):
            A name in `CORPORA`: `"beer"`, `"hotel"`, `"movies"`, `"multirc"`, `"fever"`, `"tweets"` (read from files),
            or `"aspect_reviews"` (generated). Of graphs: `"ba2motifs"` and `"goodmotif"` (generated), `"tu"`. Of
            images: `"shapes_on_textures"` (generated), `"waterbirds"`, `"cub"`.
        data_dir (`str` or `os.PathLike`, *optional*):
            The folder of the corpus's files, or its parent. The module of the corpus lists its files.
            `"aspect_reviews"`, `"goodmotif"` and `"shapes_on_textures"` have no files, and `"ba2motifs"` needs none.
        aspect (`str` or `int`, *optional*):
            The aspect that decides the label, by name or number. `"beer"` and `"hotel"` need one, `"aspect_reviews"`
            takes the first by default, and the other corpora have none.
        options:
            The corpus's own options: `variant` for `"beer"`, `seed` for `"tweets"`, and for `"aspect_reviews"`
            `n_train`, `n_validation`, `n_test`, `seed` and the arguments of [`make_aspect_reviews`]. Those of graphs
            have `seed`, and the generated ones `n_train`, `n_validation` and `n_test`; `"goodmotif"` also has `shift`
            and `bias`. `"shapes_on_textures"` has the same three, `seed`, `size`, `textures`, `digits` and
            `correlation`; `"waterbirds"` and `"cub"` have `segmentations`, and `"cub"` also `labels`,
            `validation_share` and `seed`.

    Returns:
        `datasets.DatasetDict`: the splits train, validation and test, as far as the corpus has them, all with the same
        features. `dataset.info` of each split has the name, the description and the licence of the corpus.

    Raises:
        ImportError: if a generated corpus needs an extra that is not installed.
        FileNotFoundError: if a file is missing. The message says where it was expected and what it should contain.
        MalformedDataError: if a file breaks its format. The message names the file and the line.
        TypeError: if the corpus has no such option.
        ValueError: if the corpus or the aspect does not exist. The message lists those that do.

    Example:

    ```python
    >>> from hf_rationale.data import load_rationale_dataset

    >>> beer = load_rationale_dataset("beer", data_dir="data/beer", aspect="aroma")
    >>> generated = load_rationale_dataset("aspect_reviews", aspect="aroma", n_train=5000, spurious_strength=0.5)
    ```
    """
    if name not in CORPORA:
        raise ValueError(f"There is no corpus {name!r}. The corpora are {', '.join(CORPORA)}.")
    corpus = CORPORA[name]
    if corpus.aspects:
        dataset = corpus.read(data_dir, aspect, **options)
    elif aspect is None:
        dataset = corpus.read(data_dir, **options)
    else:
        with_aspects = ", ".join(one.name for one in CORPORA.values() if one.aspects)
        raise ValueError(f"{name} has no aspects. The corpora with aspects are {with_aspects}.")
    for split in dataset.values():
        split.info.dataset_name = name if aspect is None else f"{name} {aspect}"
        split.info.description = corpus.description
        split.info.license = corpus.license
    return dataset


def corpora_table() -> str:
    """The corpora as a table in Markdown, for the documents."""
    lines = ["| name | files | from | splits that people marked |", "|---|---|---|---|"]
    lines += [
        f"| `{corpus.name}` | {corpus.files} | {corpus.source} | {corpus.marked} |" for corpus in CORPORA.values()
    ]
    return "\n".join(lines)


__all__ = [
    "CORPORA",
    "Corpus",
    "MalformedDataError",
    "corpora_table",
    "load_rationale_dataset",
    "make_aspect_reviews",
]
