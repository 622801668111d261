"""What is registered in one place appears everywhere by itself."""

import subprocess
import sys

import numpy as np
import pytest

from hf_rationale import cli, load_rationale_dataset
from hf_rationale.data import CORPORA, Corpus, corpora_table
from hf_rationale.metrics import LABELS, classification_scores, group_accuracy, rationale_scores


def test_a_corpus_appears_in_the_loader_the_command_line_and_the_documents(monkeypatch, capsys):
    reviews = load_rationale_dataset("aspect_reviews", n_train=4, n_validation=4, n_test=4)
    corpus = Corpus(
        name="new",
        read=lambda data_dir, **options: reviews,
        description="Something new.",
        license="CC BY 4.0",
        example="it is new",
        files="`new.txt`",
        source="somewhere",
        marked="test",
    )
    monkeypatch.setitem(CORPORA, "new", corpus)
    loaded = load_rationale_dataset("new", "anywhere")
    assert loaded["train"].info.dataset_name == "new" and loaded["test"].info.description == "Something new."
    with pytest.raises(ValueError, match="new has no aspects"):
        load_rationale_dataset("new", aspect="aroma")
    assert "| `new` | `new.txt` | somewhere | test |" in corpora_table()
    with pytest.raises(SystemExit):
        cli.main(["evaluate", "--help"])
    assert "cub,new" in capsys.readouterr().out.replace("\n", "").replace(" ", "")


@pytest.mark.parametrize("corpus", CORPORA.values(), ids=CORPORA)
def test_every_corpus_is_described(corpus: Corpus):
    assert corpus.description.endswith(".") and corpus.files and corpus.marked in ("all", "test", "none")
    example = corpus.example
    assert example is None or (example if isinstance(example, str) else set(example) == {"text", "text_pair"})
    assert (corpus.instances is None) == (corpus.class_names is None)


def test_every_label_of_a_measure_belongs_to_a_row_of_a_report():
    mask = [np.array([0, 1, 1])]
    rows = set()
    for name, value in rationale_scores(mask, mask, mask).items():
        rows |= {f"{name} {part}" for part in value} if isinstance(value, dict) else {name}
    rows |= set(group_accuracy(np.array([0]), np.array([0]), ["a"]))
    rows |= set(classification_scores(np.array([0, 1]), np.array([0, 1]))) | {
        "comprehensiveness aopc",
        "sufficiency aopc",
        "best yardstick f1",
        "best yardstick iou",
    }
    assert set(LABELS) <= {row.replace("_", " ") for row in rows}


def test_importing_the_package_loads_nothing_slow_and_the_folder_of_the_evaluate_module_hides_no_function():
    script = (
        "import sys, hf_rationale; print({'sklearn', 'skimage', 'torch_geometric'} & set(sys.modules)); "
        "import hf_rationale.metrics.plausibility; from hf_rationale.metrics import rationale_f1; "
        "print(rationale_f1([[0, 1]], [[0, 1]])['f1'], rationale_f1 is hf_rationale.metrics.rationale_f1)"
    )
    output = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert output.stdout.split() == ["set()", "1.0", "True"]
