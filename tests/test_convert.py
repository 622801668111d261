"""Checkpoints of the layout of the papers' scripts, against a model of that layout that is written here."""

import pickle

import pytest
import torch
from torch import nn
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from hf_rationale.cli import main
from hf_rationale.convert import convert_paper_checkpoint, load_paper_checkpoint


WORDS = ["the", "aroma", "is", "lovely", ",", "stale", "beer"]
TEXT = "the aroma is lovely , unheard beer"


class Script(nn.Module):
    """A model with the weights of the scripts: names, shapes and computation."""

    def __init__(self, shared: bool = False):
        super().__init__()
        self.embedding_layer = nn.ModuleDict({"embedding": nn.Embedding(len(WORDS) + 1, 5)})
        self.embedding_layer["embedding"].weight.data[0] = 0  # padding, and words without a vector
        self.gen = nn.GRU(5, 4, batch_first=True, bidirectional=True)
        self.cls = self.gen if shared else nn.GRU(5, 4, batch_first=True, bidirectional=True)
        self.gen_fc, self.gen_fc_adv, self.cls_fc = nn.Linear(8, 2), nn.Linear(8, 2), nn.Linear(8, 3)
        self.layernorm1, self.layernorm2 = nn.LayerNorm(8), nn.LayerNorm(8)
        self.generator = nn.Sequential(self.gen, nn.Identity(), self.layernorm1, nn.Dropout(0.2), self.gen_fc)
        nn.init.normal_(self.layernorm1.weight)

    def forward(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The probabilities of selecting, and the logits from what is more probable than not."""
        vectors = self.embedding_layer["embedding"](ids)
        scores = self.gen_fc(self.layernorm1(self.gen(vectors)[0])).softmax(-1)[..., 1]
        states = self.cls(vectors * (scores >= 0.5).float().unsqueeze(-1))[0]
        return scores, self.cls_fc(states.amax(1))


def script(seed: int = 0, shared: bool = False) -> Script:
    torch.manual_seed(seed)
    return Script(shared).eval()


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("seed", range(5))
def test_scores_and_logits_are_those_of_the_script(tmp_path, seed, shared):
    theirs = script(seed, shared)
    torch.save(theirs.state_dict(), tmp_path / "aspect1.pkl")
    model, tokenizer = convert_paper_checkpoint(load_paper_checkpoint(tmp_path / "aspect1.pkl"), WORDS)
    ids = torch.tensor([[WORDS.index(word) + 1 if word in WORDS else 0 for word in TEXT.split()]])
    with torch.no_grad():
        scores, logits = theirs(ids)
        output = model(**tokenizer(TEXT, return_tensors="pt"))
    torch.testing.assert_close(output.rationale_scores, scores)
    torch.testing.assert_close(output.logits, logits)
    assert model.config.share_encoder == shared


def test_the_command(tmp_path, capsys):
    torch.save(script().state_dict(), tmp_path / "aspect1.pkl")
    (tmp_path / "vectors.txt").write_text("".join(f"{word} 1 2 3 4 5\n" for word in WORDS))
    out = str(tmp_path / "model")
    command = ["convert", str(tmp_path / "aspect1.pkl"), "--output_dir", out, "--vectors"]
    main([*command, str(tmp_path / "vectors.txt"), "--labels", "low", "middle", "high"])
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(out), AutoTokenizer.from_pretrained(out)
    assert model.config.id2label == {0: "low", 1: "middle", 2: "high"}
    assert model(**tokenizer(TEXT, return_tensors="pt")).logits.shape == (1, 3)
    for vectors in ("nothing.txt", "aspect1.pkl"):
        with pytest.raises(SystemExit):
            main([*command, str(tmp_path / vectors)])
        assert "hf-rationale: error: " in capsys.readouterr().err


class Evil:
    def __reduce__(self):
        return print, ("code of the file was run",)


def broken(folder) -> dict:
    """Files that are no state dict, and the message for each."""
    (folder / "text.pkl").write_text("hello")
    (folder / "empty.pkl").write_bytes(b"")
    (folder / "evil.pkl").write_bytes(pickle.dumps(Evil()))
    torch.save({"model": Evil()}, folder / "evil-torch.pkl")
    torch.save([1, 2], folder / "list.pkl")
    torch.save({"epoch": 3}, folder / "numbers.pkl")
    torch.save(script(), folder / "whole-model.pkl")
    torch.save(script().state_dict(), folder / "cut.pkl")
    (folder / "cut.pkl").write_bytes((folder / "cut.pkl").read_bytes()[:2000])
    (folder / "folder.pkl").mkdir()
    return {path.name: path for path in folder.iterdir()}


def test_other_files_are_refused_and_run_no_code(tmp_path, capsys):
    for name, path in broken(tmp_path).items():
        with pytest.raises((ValueError, OSError)) as error:
            load_paper_checkpoint(path)
        assert name in str(error.value), name
    assert "code of the file" not in capsys.readouterr().out
    with pytest.raises(FileNotFoundError, match="There is no file"):
        load_paper_checkpoint(tmp_path / "nothing.pkl")


def test_other_models_are_refused():
    state = script().state_dict()
    trained = state | {"layernorm2.weight": torch.full((8,), 2.0)}
    narrow = state | {"cls.weight_ih_l0": torch.zeros(12, 4)}
    fr = {name.replace("gen.", "enc.rnn."): value for name, value in state.items()}
    for wrong, words, message in (
        (state, WORDS[:-1], "has vectors of 7 words, but there are 6"),
        (trained, WORDS, "layernorm2 has been trained"),
        (narrow, WORDS, "predictor.encoder.forward_gru.weight_ih_l0"),
        (fr, WORDS, "This one has embedding_layer, enc,"),
        ({}, WORDS, "This one has nothing"),
    ):
        with pytest.raises(ValueError, match=message):
            convert_paper_checkpoint(wrong, words)
