"""Train every method on generated graphs, and compare what it selects with yardsticks and explainers.

    python benchmarks/graphs.py --only ba2motifs --methods rnp fr n2r --seeds 5          # a line for every run
    python benchmarks/graphs.py --only ba2motifs --methods rnp --variants gcn "5 layers" # other settings
    python benchmarks/graphs.py --only ba2motifs --plain                                 # classifiers, explainers
    python benchmarks/graphs.py --only ba2motifs --cost                                  # the time of a prediction
    python benchmarks/graphs.py --table                                                  # of all lines

The lines are added to graphs.jsonl. A run that has a line is not repeated. All choices were made on the validation
sets: the test sets were read at the end of every run.
"""

import argparse
import json
import re
import resource
import tempfile
import time
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import datasets
import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch_geometric.explain import Explainer, GNNExplainer, PGExplainer
from transformers import PrinterCallback, set_seed

from hf_rationale import (
    METHODS,
    GraphRationaleConfig,
    GraphRationalePipeline,
    RationaleForGraphClassification,
    load_rationale_dataset,
)
from hf_rationale.graph.picture import draw_graphs
from hf_rationale.graph.yardsticks import graph_yardsticks, score_nodes
from hf_rationale.modeling.guidance import attributions
from hf_rationale.modeling.outputs import RationaleInputs


LINES = Path(__file__).with_suffix(".jsonl")
MODEL = {"layer_type": "gin", "num_layers": 3, "hidden_size": 32, "coherence_weight": 40.0}
TRAINING = {
    "learning_rate": 3e-3,
    "full_text_weight": 1.0,
    "initial_sparsity": 0.95,
    "predictor_tuning_ratio": 0.3,
    "max_steps": 600,
}
# The extractor imitates a predictor that loses one node after the other.
DISTILLED = {
    "initial_sparsity": None,
    "predictor_first_ratio": 0.5,
    "predictor_first_share": 0.8,
    "distillation_weight": 1.0,
    "distillation_from": "occlusion",
    "max_steps": 1500,
}
DRAWN = 8  # graphs in a picture
# The share of the motif, and what is different from the recipe.
CORPORA: dict[str, dict[str, Any]] = {
    "ba2motifs": {"sparsity": 0.2},
    "goodmotif": {"sparsity": 0.25},
    "goodmotif-spurious": {"sparsity": 0.25},
    "goodmotif-size": {"sparsity": 0.25, "decoding": "top_k", "rationale_top_k": 5},
}
# What the yardsticks and explainers select of the test graphs, where these are larger than the training graphs.
TEST_SHARES = {"goodmotif-size": 0.1}
VARIANTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "recipe": ({}, {}),
    "coherence 1": ({"coherence_weight": 1.0}, {}),
    "coherence 10": ({"coherence_weight": 10.0}, {}),
    "coherence 20": ({"coherence_weight": 20.0}, {}),
    "not annealed": ({}, {"initial_sparsity": None}),
    "no full-graph term": ({}, {"full_text_weight": 0.0}),
    "5 layers": ({"num_layers": 5}, {}),
    "2 layers": ({"num_layers": 2}, {}),
    "gcn": ({"layer_type": "gcn"}, {}),
    "gcn, 5 layers": ({"layer_type": "gcn", "num_layers": 5}, {}),
    "gat": ({"layer_type": "gat"}, {}),
    "distilled": ({"coherence_weight": 10.0}, {**DISTILLED, "predictor_tuning_ratio": 0.2}),
    "distilled, by gradient": (
        {"coherence_weight": 10.0},
        {**DISTILLED, "predictor_tuning_ratio": 0.2, "distillation_from": "gradient"},
    ),
    "distilled, no game": ({}, {**DISTILLED, "predictor_first_ratio": 0.75, "predictor_tuning_ratio": 0.25}),
    "predictor not tuned": ({}, {"predictor_tuning_ratio": 0.0}),
    "perturbation rate 0.1": ({}, {"perturbation_rate": 0.1}),  # of VER
    "slow predictor": ({}, {"scale_predictor_rate": True}),
}


def load(corpus: str) -> datasets.DatasetDict:
    name, _, shift = corpus.partition("-")
    return load_rationale_dataset(name, **({"shift": shift} if shift else {}))


def test_share(corpus: str) -> float:
    return TEST_SHARES.get(corpus, CORPORA[corpus]["sparsity"])


def recorded() -> list[dict[str, Any]]:
    if not LINES.exists():
        return []
    return [json.loads(line) for line in LINES.read_text(encoding="utf-8").splitlines()]


def record(line: dict[str, Any]):
    with LINES.open("a", encoding="utf-8") as file:
        file.write(json.dumps(line) + "\n")
    print(json.dumps(line), flush=True)


def make_model(corpus: str, dataset: datasets.DatasetDict, **options) -> RationaleForGraphClassification:
    labels = dataset["train"].features["label"].num_classes
    fields = MODEL | CORPORA[corpus] | {"num_labels": labels} | options
    return RationaleForGraphClassification(GraphRationaleConfig(**fields))


def train(corpus: str, method: str, variant: str, seed: int, pictures: Path | None = None) -> dict[str, Any]:
    """One run: the scores on the validation set, and at the end those on the test set. `pictures` is a folder for a
    picture of what is selected of the first test graphs."""
    dataset = load(corpus)
    trainer_class = METHODS[method]
    own, changed = VARIANTS[variant]
    set_seed(seed)
    shared = {"share_encoder": True} if method == "fr" else {}
    model = make_model(corpus, dataset, **trainer_class.model_options | shared | own)
    with tempfile.TemporaryDirectory() as folder:
        args = trainer_class.arguments_class(
            **{
                "output_dir": folder,
                "per_device_train_batch_size": 64,
                "per_device_eval_batch_size": 128,
                "eval_strategy": "no",
                "save_strategy": "no",
                "load_best_model_at_end": False,
                "report_to": "none",
                "disable_tqdm": True,
                "use_cpu": True,
                "seed": seed,
                **TRAINING,
                **changed,
            }
        )
        trainer = trainer_class(
            model=model, args=args, train_dataset=dataset["train"], eval_dataset=dataset["validation"]
        )
        trainer.remove_callback(PrinterCallback)
        start = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - start
        validation = trainer.evaluate(metric_key_prefix="validation")
        test = trainer.evaluate(dataset["test"], metric_key_prefix="test")
    if pictures is not None:
        rows = dataset["test"].select(range(DRAWN))
        name = re.sub("[^a-z0-9.]+", "-", f"{corpus} {method} {variant}")
        draw_graphs(list(rows), GraphRationalePipeline(model)(rows)).savefig(pictures / f"{name}.png", dpi=60)
    names = ("accuracy", "rationale_f1", "rationale_precision", "rationale_recall", "rationale_sparsity")
    scores = {
        f"{split}_{name}": round(metrics[f"{split}_{name}"], 4)
        for split, metrics in (("validation", validation), ("test", test))
        for name in names
    }
    return scores | {"seconds": round(seconds, 1), "megabytes": peak_memory()}


def peak_memory() -> int:
    """The largest memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


# --- Plain classifiers, and what explains them -----------------------------------------------------------------------


class PlainClassifier(nn.Module):
    """The predictor of a model, which reads whole graphs. Called with one graph, as the explainers call it."""

    def __init__(self, model: RationaleForGraphClassification):
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor, edge_index: torch.LongTensor) -> torch.Tensor:
        # The encoder adds the other direction of every edge, in the same order as in `both_directions`.
        edges = edge_index[:, : edge_index.shape[1] // 2].T[None]
        inputs = self.model.prepare(features=x[None], edges=edges)
        return self.model.predict(inputs, torch.ones(x.shape[:1])[None]).logits


def both_directions(edges: torch.LongTensor) -> torch.LongTensor:
    return torch.cat([edges.T, edges.T.flip(0)], dim=1)


def collated(model: RationaleForGraphClassification, split: datasets.Dataset) -> dict[str, torch.Tensor]:
    return model.data_collator()(list(model.encode_dataset(split)))


def read_everything(model: RationaleForGraphClassification, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    inputs = prepared(model, batch)
    return model.predict(inputs, inputs.units.selectable.float()).logits


def prepared(model: RationaleForGraphClassification, batch: dict[str, torch.Tensor]) -> RationaleInputs:
    return model.prepare(**{name: value for name, value in batch.items() if name != "rationale"})


def train_plain(corpus: str, options: dict[str, Any], seed: int) -> tuple[RationaleForGraphClassification, float]:
    """The predictor alone, on whole graphs, with as many steps as a rationale model; and the seconds."""
    dataset = load(corpus)
    set_seed(seed)
    model = make_model(corpus, dataset, **options).train()
    batch = collated(model, dataset["train"])
    optimizer = torch.optim.AdamW(model.predictor.parameters(), TRAINING["learning_rate"])
    start, step = time.perf_counter(), 0
    while step < TRAINING["max_steps"]:
        for rows in torch.randperm(len(batch["labels"])).split(64):
            logits = read_everything(model, {name: value[rows] for name, value in batch.items()})
            loss = F.cross_entropy(logits, batch["labels"][rows])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(model.predictor.parameters(), 1.0)
            optimizer.step()
            step += 1
    return model.eval(), time.perf_counter() - start


def explain(corpus: str, options: dict[str, Any], seed: int, graphs: int = 30) -> dict[str, Any]:
    """The accuracy of a plain classifier, and F1 of the nodes that explainers find for `graphs` test graphs."""
    dataset = load(corpus)
    model, seconds = train_plain(corpus, options, seed)
    cost = {"seconds": round(seconds, 1), "megabytes": peak_memory()}
    with torch.no_grad():
        accuracy = {
            f"{split}_accuracy": round(
                float((read_everything(model, batch).argmax(-1) == batch["labels"]).float().mean()), 4
            )
            for split in ("validation", "test")
            for batch in (collated(model, dataset[split]),)
        }
    rows = list(dataset["test"].select(range(min(graphs, len(dataset["test"])))))
    batch = collated(model, dataset["test"].select(range(len(rows))))
    inputs = prepared(model, batch)
    with torch.no_grad():
        inputs = inputs._replace(labels=read_everything(model, batch).argmax(-1))
    slopes = attributions(model, inputs)
    lengths = [len(row["features"]) for row in rows]
    scores = {
        "saliency": [one[:length].numpy() for one, length in zip(slopes, lengths, strict=True)],
        "absolute saliency": [one[:length].abs().numpy() for one, length in zip(slopes, lengths, strict=True)],
        **gnn_explainer(model, batch, lengths),
        **pg_explainer(model, collated(model, dataset["train"].select(range(100))), batch, lengths),
    }
    found = {name: round(score_nodes(rows, one, test_share(corpus))["f1"], 4) for name, one in scores.items()}
    return accuracy | cost | {"graphs": len(rows), "test_f1": found}


def single(batch: dict[str, torch.Tensor], row: int) -> tuple[torch.Tensor, torch.LongTensor, torch.LongTensor]:
    edges = batch["edges"][row]
    edges = edges[edges[:, 0] != edges[:, 1]]
    return batch["features"][row, batch["node_mask"][row] > 0], both_directions(edges), batch["labels"][row : row + 1]


CLASSIFICATION = {"mode": "multiclass_classification", "task_level": "graph", "return_type": "raw"}


def gnn_explainer(model, batch, lengths) -> dict[str, list[np.ndarray]]:
    """The node masks, and the largest edge masks at every node."""
    explainer = Explainer(
        PlainClassifier(model),
        algorithm=GNNExplainer(epochs=100),
        explanation_type="model",
        node_mask_type="object",
        edge_mask_type="object",
        model_config=CLASSIFICATION,
    )
    nodes, edges = [], []
    for row, length in enumerate(lengths):
        x, edge_index, _ = single(batch, row)
        explanation = explainer(x, edge_index)
        nodes.append(explanation.node_mask[:, 0].numpy())
        edges.append(of_edges(explanation.edge_mask, edge_index, length))
    return {"GNNExplainer, nodes": nodes, "GNNExplainer, edges": edges}


def pg_explainer(model, train_batch, batch, lengths, epochs: int = 10) -> dict[str, list[np.ndarray]]:
    """The largest edge masks at every node. The explainer is trained on training graphs."""
    explainer = Explainer(
        PlainClassifier(model),
        algorithm=PGExplainer(epochs=epochs, lr=0.003),
        explanation_type="phenomenon",
        edge_mask_type="object",
        model_config=CLASSIFICATION,
    )
    for epoch in range(epochs):
        for row in range(len(train_batch["labels"])):
            x, edge_index, target = single(train_batch, row)
            explainer.algorithm.train(epoch, explainer.model, x, edge_index, target=target)
    edges = []
    for row, length in enumerate(lengths):
        x, edge_index, target = single(batch, row)
        edges.append(of_edges(explainer(x, edge_index, target=target).edge_mask, edge_index, length))
    return {"PGExplainer, edges": edges}


def of_edges(mask: torch.Tensor, edge_index: torch.LongTensor, nodes: int) -> np.ndarray:
    scores = torch.zeros(nodes).scatter_reduce(0, edge_index.flatten(), mask.detach().repeat(2), reduce="amax")
    return scores.numpy()


PLAIN = {
    "gcn, 2 layers": {"layer_type": "gcn", "num_layers": 2},
    "gcn, 5 layers": {"layer_type": "gcn", "num_layers": 5},
    "gin, 3 layers": {"layer_type": "gin", "num_layers": 3},
}


@torch.no_grad()
def prediction_times(corpus: str, repetitions: int = 20) -> dict[str, float]:
    """Milliseconds of CPU time for each test graph, in batches of 100: of a prediction with its rationale, and of one
    from the whole graph."""
    dataset = load(corpus)
    model = make_model(corpus, dataset).eval()
    batch = collated(model, dataset["test"].select(range(100)))
    inputs = {name: value for name, value in batch.items() if name != "rationale"}
    times = {}
    for name, read in {
        "rationale": lambda: model(**inputs),
        "whole graph": lambda: read_everything(model, batch),
    }.items():
        read()
        start = time.process_time()
        for _ in range(repetitions):
            read()
        times[name] = round((time.process_time() - start) / repetitions / 100 * 1000, 3)
    return times


# --- Tables ----------------------------------------------------------------------------------------------------------


def spread(values: list[float]) -> str:
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


def table(lines: list[dict[str, Any]]) -> str:
    columns = ("test_accuracy", "test_rationale_f1", "validation_rationale_f1", "test_rationale_sparsity", "seconds")
    rows: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for line in lines:
        if "method" in line:
            rows.setdefault((line["corpus"], line["method"], line["variant"]), []).append(line)
    text = [f"| corpus | method | variant | seeds | {' | '.join(columns)} |", f"|---{'|---' * (3 + len(columns))}|"]
    for key, found in rows.items():
        cells = [spread([line[column] for line in found]) for column in columns]
        text.append(f"| {' | '.join(key)} | {len(found)} | {' | '.join(cells)} |")
    return "\n".join(text)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="*", default=list(CORPORA), choices=list(CORPORA), help="these corpora")
    parser.add_argument("--methods", nargs="*", default=[], help="the methods to train")
    parser.add_argument("--variants", nargs="*", default=["recipe"], choices=list(VARIANTS), help="the settings")
    parser.add_argument("--seeds", type=int, default=1, help="the number of seeds, from 0 on")
    parser.add_argument("--pictures", type=Path, help="a folder for pictures of what the trained models select")
    parser.add_argument("--plain", action="store_true", help="train plain classifiers, and explain them")
    parser.add_argument("--cost", action="store_true", help="measure the time of a prediction")
    parser.add_argument("--table", action="store_true", help="print a table of all lines")
    options = parser.parse_args()
    datasets.disable_progress_bars()
    torch.set_num_threads(1)
    done = {tuple(line.get(name) for name in ("corpus", "method", "variant", "plain", "seed")) for line in recorded()}
    for corpus in options.only:
        if options.plain and (corpus, None, None, "yardsticks", None) not in done:
            dataset = load(corpus)["test"]
            found = graph_yardsticks(dataset, test_share(corpus))
            record(
                {"corpus": corpus, "plain": "yardsticks", "test_f1": {k: round(v["f1"], 4) for k, v in found.items()}}
            )
        for name, own in PLAIN.items() if options.plain else ():
            for seed in range(options.seeds):
                if (corpus, None, None, name, seed) not in done:
                    record({"corpus": corpus, "plain": name, "seed": seed, **explain(corpus, own, seed)})
    for corpus in options.only if options.cost else ():
        print(corpus, prediction_times(corpus))
    runs = [
        (corpus, method, variant, seed)
        for seed in range(options.seeds)
        for corpus in options.only
        for variant in options.variants
        for method in options.methods
    ]
    for corpus, method, variant, seed in runs:
        if (corpus, method, variant, None, seed) not in done:
            line = {"corpus": corpus, "method": method, "variant": variant, "seed": seed}
            record(line | train(corpus, method, variant, seed, options.pictures))
    if options.table:
        print(table(recorded()))


if __name__ == "__main__":
    main()
