"""Images: encoding, scores, yardsticks, pictures, the pipeline and the command line. What holds for every kind of
input is in `test_kinds.py` and `test_trainer.py`, and the corpora are in `test_data_images.py`."""

from __future__ import annotations

import dataclasses
import functools
import json
import sys

import numpy as np
import pytest
import torch
from conftest import load_script
from datasets import Dataset
from PIL import Image
from training_common import make_args, make_model, toy_images
from transformers import (
    AutoModelForImageClassification,
    ResNetConfig,
    TimmWrapperConfig,
    TimmWrapperForImageClassification,
    TimmWrapperModel,
    TrainerCallback,
    ViTConfig,
    ViTForImageClassification,
    ViTImageProcessorPil,
)
from transformers import pipeline as make_pipeline

from hf_rationale import (
    METHODS,
    RationaleForImageClassification,
    RationaleImageConfig,
    RNPTrainer,
    cli,
    evaluate_rationales,
)
from hf_rationale.data import CORPORA
from hf_rationale.data.shapes_on_textures import SHAPES_ON_TEXTURES, read_shapes_on_textures
from hf_rationale.image.batch_norm import FreezeBatchNorm
from hf_rationale.image.encoding import ImageCollator, encode_images
from hf_rationale.image.modeling_image import grid_edges
from hf_rationale.image.pictures import gallery, overlay
from hf_rationale.image.scores import image_metrics, mask_scores
from hf_rationale.image.yardsticks import image_yardsticks
from hf_rationale.metrics import SPAN_SCORES, group_accuracy
from hf_rationale.modeling.objective import coherence
from hf_rationale.reading import read_rationales


IMAGES, GRAPHS = {"random", "center", "contrast"}, {"random", "degree", "center", "core"}  # their yardsticks


def processor(side: int = 12, **options) -> ViTImageProcessorPil:
    return ViTImageProcessorPil(size={"height": side, "width": side}, **options)


# --- The model -------------------------------------------------------------------------------------------------------


def test_resnet_18_is_the_default():
    config = RationaleImageConfig()
    assert (config.backbone_config.depths, config.backbone_config.hidden_sizes[-1]) == ([2, 2, 2, 2], 512)
    assert config.selection_level == "pixel"


def test_coherence_counts_neighbours_right_and_below():
    assert sorted(map(tuple, grid_edges(2, 3).tolist())) == [(0, 1), (0, 3), (1, 2), (1, 4), (2, 5), (3, 4), (4, 5)]
    model, _ = make_model(backbone="images")
    units = model.prepare(torch.zeros(1, 3, 12, 12)).units
    mask = torch.zeros(1, 36)
    mask[0, 7] = 1  # an inner patch has four neighbours
    assert float(coherence(mask, units)) == pytest.approx(4 / 36)


@torch.no_grad()
def test_the_predictor_sees_the_fill_where_nothing_is_selected():
    model = RationaleForImageClassification(RationaleImageConfig(patch_size=4, fill="learned", unet_sizes=[8, 8]))
    hide = model.predictor.hide
    hide.color.copy_(torch.tensor([0.1, 0.2, 0.3]))
    seen = hide(torch.ones(1, 3, 8, 8), torch.tensor([[0.0, 1.0, 0.0, 0.0]]))
    assert seen[0, :, 0, 7].tolist() == [1, 1, 1]
    torch.testing.assert_close(seen[0, :, 7, 7], torch.tensor([0.1, 0.2, 0.3]))
    assert int((seen[0, 0] == 1).sum()) == 16


@torch.no_grad()
def test_a_backbones_weights_are_taken_over():
    config = ViTConfig(
        hidden_size=12, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=8, patch_size=4
    )
    classifier = ViTForImageClassification(config).eval()
    model = RationaleForImageClassification.from_encoder_pretrained(classifier, patch_size=4, sparsity=0.5)
    images = torch.randn(2, 3, 8, 8)
    everything = torch.ones(2, 4)
    read = model.predict(model.prepare(images), everything).representation
    torch.testing.assert_close(read, classifier.vit(images).last_hidden_state[:, 0])


@pytest.mark.parametrize("architecture", ["resnet18", "convnext_atto", "mobilenetv3_small_050"])
def test_a_model_of_timm_reads_what_is_selected_and_nothing_else(tmp_path, architecture):
    pytest.importorskip("timm")
    config = TimmWrapperConfig(architecture=architecture, initializer_range=0.02)
    images = torch.randn(2, 3, 64, 64)
    for source in (TimmWrapperForImageClassification(config).eval(), TimmWrapperModel(config).eval()):
        model = RationaleForImageClassification.from_encoder_pretrained(
            source, patch_size=8, sparsity=0.3, num_labels=2
        )
    read = model.predict(model.prepare(images), torch.ones(2, 64)).representation
    torch.testing.assert_close(read, source(images).pooler_output)
    output = model(images)
    hidden = (output.rationale_mask == 0).view(2, 1, 8, 8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    changed = model(images + 5 * hidden, rationale_mask=output.rationale_mask)
    torch.testing.assert_close(changed.logits, model(images, rationale_mask=output.rationale_mask).logits)
    model.save_pretrained(tmp_path)
    loaded = RationaleForImageClassification.from_pretrained(tmp_path).eval()
    assert torch.equal(loaded(images).logits, output.logits)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"mask_head": "spans"}, "mask_head"),
        ({"decoding": "threshold", "switch_cost": 0.1}, "switch_cost"),
        ({"pooling": "max"}, "pooling"),
        ({"fill": "blur"}, "fill"),
        ({"patch_size": 0}, "patch_size"),
        ({"unet_sizes": []}, "unet_sizes"),
        ({"share_encoder": True, "backbone_config": ViTConfig()}, "Leave out backbone_config"),
    ],
)
def test_fields_that_do_not_fit_images_raise(fields, message):
    with pytest.raises(Exception, match=message):
        RationaleImageConfig(**fields)


def test_inputs_that_do_not_fit_raise():
    model, images = make_model(backbone="images")
    with pytest.raises(ValueError, match="9×12 pixels, which patches of 2×2 do not fill"):
        model(torch.zeros(1, 3, 9, 12))
    with pytest.raises(ValueError, match="pixel_values must have the shape"):
        model(torch.zeros(1, 1, 12, 12))
    with pytest.raises(ValueError, match="image processor"):
        model.data_collator(None)
    with pytest.raises(ValueError, match="max_length"):
        model.encode_dataset(toy_images(2), images, max_length=3)
    with pytest.raises(ValueError, match="share_encoder"):
        RationaleForImageClassification.from_encoder_pretrained("anywhere", share_encoder=True)


@pytest.mark.parametrize("method, message", [("nir", "NIR"), ("plmr", "split_by_depth"), ("rtp", "mask_head=spans")])
def test_methods_that_do_not_apply_are_refused_by_name(tmp_path, method, message):
    model, images = make_model(backbone="images")
    with pytest.raises(ValueError, match=message):
        METHODS[method](
            model=model,
            args=make_args(tmp_path, method),
            train_dataset=toy_images(4),
            eval_dataset=toy_images(4),
            processing_class=images,
        )


@pytest.mark.parametrize("after, changes", [(0.0, False), (0.5, True)])
def test_batch_normalization_is_frozen_from_a_share_of_the_steps_on(tmp_path, after, changes):
    backbone = ResNetConfig(layer_type="basic", embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1])
    model = RationaleForImageClassification(RationaleImageConfig(backbone_config=backbone, unet_sizes=[8, 8]))
    norm = next(module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d))
    seen = []

    class Watch(TrainerCallback):
        def on_step_end(self, *args, **kwargs):
            seen.append(norm.running_mean.clone())

    trainer = RNPTrainer(
        model=model,
        args=make_args(tmp_path),
        train_dataset=toy_images(16),
        eval_dataset=toy_images(8),
        processing_class=processor(),
        callbacks=[FreezeBatchNorm(after), Watch()],
    )
    trainer.train()
    assert torch.equal(seen[2], seen[3]) and torch.equal(seen[0], seen[1]) != changes
    trainer.save_model()
    assert RationaleForImageClassification.from_pretrained(tmp_path).train().config.freeze_batch_norm
    with pytest.raises(ValueError, match="after must be a share"):
        FreezeBatchNorm(2)


# --- Encoding --------------------------------------------------------------------------------------------------------


def test_pictures_and_arrays_are_encoded_alike():
    rows = toy_images(3)
    pictures = [Image.fromarray(np.asarray(image, dtype=np.uint8)) for image in rows["image"]]
    masks = [Image.fromarray(np.asarray(mask, dtype=np.uint8) * 255) for mask in rows["rationale"]]
    given = Dataset.from_dict({"image": pictures, "rationale": masks, "label": rows["label"]})
    one, other = encode_images(rows, processor()), encode_images(given, processor())
    for name in ("pixels", "rationale", "labels", "length"):
        np.testing.assert_array_equal(one[name][:], other[name][:])
    np.testing.assert_array_equal(one["rationale"][0], np.ravel(rows["rationale"][0]))
    np.testing.assert_array_equal(one[0]["pixels"], np.moveaxis(np.asarray(rows["image"][0]), 2, 0))


def test_collated_images_are_what_the_processor_gives():
    images = processor(8, image_mean=[0.1, 0.2, 0.3], image_std=[0.5, 0.6, 0.7])
    rows = toy_images(4)
    encoded = encode_images(rows, images)
    batch = ImageCollator(images)([encoded[row] for row in range(4)])
    expected = images([np.asarray(image, dtype=np.uint8) for image in rows["image"]], return_tensors="pt")
    torch.testing.assert_close(batch["pixel_values"], expected["pixel_values"], atol=0.02, rtol=0)  # whole bytes
    assert batch["rationale"].shape == (4, 64) and set(batch["rationale"].unique().tolist()) == {0, 1}


def test_an_image_nobody_marked_has_no_rationale():
    encoded = encode_images(toy_images(2, marked=False), processor())
    assert set(encoded["rationale"][0]) == {-1}


@pytest.mark.parametrize(
    "rows, message",
    [
        ({"picture": [1]}, r"needs the columns \['image'\]"),
        ({"image": [[1, 2]]}, r"Image 0 must be an image"),
        ({"image": [[[300, 2]]]}, "whole numbers from 0 to 255"),
        ({"image": [[[1, 2]]], "rationale": [[[1, 0], [0, 0]]]}, r"Image 0 has the size \(2, 1\)"),
        ({"image": [[[1, 2]]], "rationale": [[1, 0]]}, "The rationale of image 0 must be a mask"),
    ],
)
def test_malformed_rows_are_named(rows, message):
    with pytest.raises(ValueError, match=message):
        encode_images(Dataset.from_dict(rows), processor())


# --- Training, evaluation and the pipeline ---------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model that has learned where the square is, and its folder."""
    folder = tmp_path_factory.mktemp("trained")
    model, images = make_model(backbone="images", sparsity=0.12)
    args = make_args(folder, optim="adamw_torch", learning_rate=0.01, num_train_epochs=12, seed=1)
    trainer = RNPTrainer(
        model=model,
        args=args,
        train_dataset=toy_images(96),
        eval_dataset=toy_images(32, seed=1),
        processing_class=images,
        compute_metrics=image_metrics,
    )
    trainer.train()
    metrics = trainer.evaluate()
    trainer.save_model()
    return folder, model, images, metrics


def test_a_model_learns_to_select_the_square(trained):
    _, _, images, metrics = trained
    assert metrics["eval_accuracy"] > 0.9
    yardsticks = image_yardsticks(toy_images(32, seed=1), 0.12, images, 2)
    assert metrics["eval_rationale_iou"] > yardsticks["random"]["iou"]


def test_the_pipeline_returns_label_mask_and_overlay(trained):
    folder, _, images, _ = trained
    pipe = make_pipeline("rationale-image-classification", model=str(folder))
    picture = np.asarray(toy_images(1, seed=3)["image"][0], dtype=np.uint8)
    result = pipe(Image.fromarray(picture))
    assert set(result) == {"label", "score", "sparsity", "image", "mask", "overlay"}
    chosen = np.asarray(result["mask"]) > 0
    assert chosen.shape == (12, 12) and chosen.mean() == pytest.approx(result["sparsity"], abs=1e-5)
    np.testing.assert_array_equal(np.asarray(result["overlay"])[chosen], picture[chosen])
    assert pipe([picture, picture])[1]["score"] == pytest.approx(result["score"], abs=1e-6)
    assert len(pipe(picture, top_k=None)) == 2
    assert np.asarray(pipe(picture, rationale_ratio=1.0)["mask"]).all()
    assert pipe([]) == [] and pipe(toy_images(2))[0]["label"] in ("LABEL_0", "LABEL_1")
    with pytest.raises(TypeError, match="Unknown arguments"):
        pipe(picture, rationale_level="word")
    inferred = make_pipeline(model=str(folder), image_processor=images)
    assert inferred(picture)["label"] == result["label"]
    assert isinstance(AutoModelForImageClassification.from_pretrained(folder), RationaleForImageClassification)


def test_unselected_pixels_do_not_change_the_pipelines_answer(trained):
    """With the mask given, as the model would otherwise select anew."""
    _, model, images, _ = trained
    batch = ImageCollator(images)([encode_images(toy_images(1, seed=3), images)[0]])
    values, mask = batch["pixel_values"], torch.zeros(1, 36)
    mask[0, :4] = 1
    other = values.clone()
    other[:, :, 2:] = 9.0
    with torch.no_grad():
        one, two = (model.eval()(given, rationale_mask=mask).logits for given in (values, other))
    assert torch.equal(one, two)


def test_the_card_and_the_report_name_what_does_not_apply(trained, tmp_path):
    folder, model, images, _ = trained
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "patch of 2×2 pixels" in card and "rationale-image-classification" in card
    assert "| split | images | mean pixels |" in card and "words" not in card
    report = evaluate_rationales(model, toy_images(8, seed=1), images, tmp_path)
    assert report.sections["plausibility"]["scores"]["token_micro"]["f1"] > 0
    assert report.about["images with marked rationales"] == 8
    assert "comprehensiveness" in json.dumps(report.sections["faithfulness"])
    assert set(report.sections["yardsticks"]["scores"]) == {"random", "center", "contrast"}
    for section in ("lipschitz", "failure_rate", "homogeneity"):
        assert list(report.sections[section]) == ["not measured"]


def test_the_script_trains_and_evaluates(tmp_path, monkeypatch):
    pytest.importorskip("skimage")
    counts = {"n_train": 24, "n_validation": 8, "n_test": 12}
    flags = (
        f"--dataset_options {json.dumps(counts, separators=(',', ':'))} --size 16 --sparsity 0.15 --num_train_epochs 1"
    )
    monkeypatch.setattr(
        sys, "argv", ["train_images.py", *flags.split(), "--output_dir", str(tmp_path), "--use_cpu", "1"]
    )
    load_script("examples/train_images.py").main()
    scores = json.loads((tmp_path / "eval_results.json").read_text())
    assert {"eval_accuracy", "eval_worst_group_accuracy", "eval_rationale_iou", "eval_center_f1"} <= set(scores)
    assert (tmp_path / "selections.png").exists() and "digits: CC BY 4.0" in (tmp_path / "README.md").read_text()
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "IoU of the masks, mean over images" in card and "accuracy of the worst group" in card
    for flags, error, message in (
        (["--method", "none"], SystemExit, "there is no none"),
        (["--dataset", "cub"], FileNotFoundError, "pass data_dir"),
    ):
        monkeypatch.setattr(sys, "argv", ["train_images.py", *flags, "--output_dir", str(tmp_path)])
        with pytest.raises(error, match=message):
            load_script("examples/train_images.py").main()


# --- Scores, yardsticks, pictures ------------------------------------------------------------------------------------


def test_mask_scores_by_hand():
    selected, gold = [np.array([1, 1, 0, 0]), np.zeros(4)], [np.array([1, 0, 1, 0]), np.zeros(4)]
    scores = mask_scores(selected, gold)
    assert scores == {
        "f1": 0.5,
        "precision": 0.5,
        "recall": 0.5,
        "iou": pytest.approx(1 / 3),  # of the first image: the second one has neither
        "sparsity": 0.25,
        "gold_sparsity": 0.25,
    }


def test_yardsticks_look_where_they_say():
    image, mask = np.full((8, 8), 100), np.zeros((8, 8), dtype=int)
    image[:2, :2], mask[:2, :2] = 250, 1
    dataset = Dataset.from_dict({"image": [image], "rationale": [mask]})
    scores = image_yardsticks(
        dataset, 1 / 16, processor(8), 2, classify=lambda images: images[:, 0, :2, :2].sum((1, 2))[:, None]
    )
    assert scores["contrast"]["iou"] == scores["saliency"]["iou"] == 1 and scores["center"]["iou"] == 0
    with pytest.raises(ValueError, match="Nobody marked"):
        image_yardsticks(toy_images(2, marked=False), 0.1, processor())


def test_overlay_keeps_what_is_selected():
    image, mask = Image.new("RGB", (6, 4), (10, 20, 30)), np.zeros((4, 6))
    mask[1:3, 1:3] = 1
    picture = np.asarray(overlay(image, mask))
    assert picture[1, 1].tolist() == [10, 20, 30] and picture[3, 5].tolist() == [194, 196, 199]
    assert picture[0, 1].tolist() == [230, 30, 60]
    assert gallery([[image, image]], scale=2).size == (2 * 16 + 4, 16)
    with pytest.raises(ValueError, match="pixels"):
        overlay(image, np.zeros((6, 4)))


# --- Evaluation and the command line ---------------------------------------------------------------------------------


def test_the_report_has_the_iou_of_the_masks_and_no_spans(trained):
    _, model, images, metrics = trained
    report = evaluate_rationales(
        model, toy_images(32, seed=1), images, sections=["plausibility", "yardsticks", "classification"]
    )
    plausibility = report.sections["plausibility"]
    assert plausibility["scores"]["mask_iou"] == pytest.approx(metrics["eval_rationale_iou"])
    assert set(plausibility["scores"]) == set(plausibility["intervals"]) and not set(SPAN_SCORES) & set(
        plausibility["scores"]
    )
    low, high = report.table()["mask iou"][1]
    assert low < plausibility["scores"]["mask_iou"] < high
    assert "| mask iou |" in report.to_markdown() and "<td>yardstick center iou</td>" in report.to_html()
    assert "worst_group_accuracy" not in report.sections["classification"]


def test_a_report_of_other_pixels_is_not_continued(tmp_path):
    """Although the repr of an array does not show the middle of a large image."""
    model, _ = make_model("fr", "images")
    large, sections = processor(48), ["classification"]
    rows = toy_images(2, side=48)
    evaluate_rationales(model, rows, large, tmp_path, sections=sections)
    changed = np.array(rows["image"], dtype=np.uint8)
    changed[0, 24, 24] = 0
    other = Dataset.from_dict({"image": list(changed), "label": rows["label"], "rationale": rows["rationale"]})
    with pytest.raises(ValueError, match="of other data"):
        evaluate_rationales(model, other, large, tmp_path, sections=sections)


@pytest.fixture
def few_images(monkeypatch):
    """The generated corpus has a few images only."""
    pytest.importorskip("skimage")
    few = functools.partial(read_shapes_on_textures, n_train=2, n_validation=2, n_test=12, size=16)
    monkeypatch.setitem(CORPORA, "shapes_on_textures", dataclasses.replace(SHAPES_ON_TEXTURES, read=few))


def test_the_command_evaluates_a_folder(trained, few_images, tmp_path, capsys):
    folder, model, images, _ = trained
    command = ["evaluate", str(folder), "--dataset", "shapes_on_textures", "--output_dir", str(tmp_path)]
    cli.main(command)
    shown = capsys.readouterr().out
    saved = json.loads((tmp_path / "report.json").read_text())["sections"]
    test = CORPORA["shapes_on_textures"].read()["test"]
    predicted = read_rationales(model, test, images).probabilities.argmax(-1)
    groups = [test.features["group"].int2str(group) for group in test["group"]]
    expected = group_accuracy(predicted, test["label"][:], groups)
    assert {name: saved["classification"][name] for name in expected} == expected
    assert f"| accuracy of group {groups[0]} | " in shown and "| worst group accuracy | " in shown
    assert "- data: shapes_on_textures test" in shown and "| mask iou | " in shown and "span" not in shown
    assert sorted(path.name for path in tmp_path.iterdir()) == ["report.html", "report.json", "report.md"]
    cli.main(command)  # the same model and data: the report is read
    assert capsys.readouterr().out == shown


@pytest.mark.parametrize("dataset, names", [("shapes_on_textures", IMAGES), ("goodmotif", GRAPHS)])
def test_the_command_scores_yardsticks(few_images, tmp_path, capsys, dataset, names):
    cli.main(["yardsticks", "--dataset", dataset, "--sparsity", "0.15", "--output_dir", str(tmp_path)])
    results = json.loads((tmp_path / "yardsticks.json").read_text())
    assert set(results) == names
    assert all(scores["sparsity"] == pytest.approx(0.15, abs=0.02) for scores in results.values())
    shown = capsys.readouterr().out
    assert all(f"| {name} | " in shown for name in names)
    assert ("| iou |" in shown) == ("iou" in results["random"])


@pytest.mark.parametrize(
    "command, message",
    [
        ("yardsticks --sparsity 0.1 --keywords digit", "--keywords is an option for texts"),
        ("yardsticks --sparsity 0.1 --encoder nowhere", "--encoder is an option for texts"),
        ("yardsticks --top_k 2", "--top_k is an option for texts, and shapes_on_textures has none. Pass --sparsity"),
        ("yardsticks --sparsity 0.1 --data_dir .", "leave data_dir out"),
        ("evaluate MODEL --max_length 5", "max_length cuts texts, and there are none"),
        ("evaluate MODEL --rationale_level word", "units of texts, and the model reads images"),
        ("evaluate TEXTS", "'tokens'"),
        ("extract MODEL", "reads images, and this command is for texts"),
        ("extract TEXTS", "shapes_on_textures has no texts"),
    ],
)
def test_what_does_not_apply_to_images_is_an_error_of_one_line(
    trained, few_images, tmp_path, capsys, command, message
):
    texts, tokenizer = make_model()
    texts.save_pretrained(tmp_path / "texts")
    tokenizer.save_pretrained(tmp_path / "texts")
    words = command.replace("MODEL", str(trained[0])).replace("TEXTS", str(tmp_path / "texts")).split()
    with pytest.raises(SystemExit):
        cli.main([*words, "--dataset", "shapes_on_textures", "--output_dir", str(tmp_path / "out")])
    assert message in capsys.readouterr().err.splitlines()[-1]


def test_explain_and_corpora_of_texts_are_refused_by_name(trained, tmp_path, capsys):
    folder = str(trained[0])
    (tmp_path / "texts.txt").write_text("a text\n")
    explain = ["explain", folder, "--input", str(tmp_path / "texts.txt"), "--output", str(tmp_path / "out.jsonl")]
    evaluate = ["evaluate", folder, "--dataset", "ba2motifs", "--output_dir", str(tmp_path / "out")]
    for command, message in ((explain, "reads images, and this command is for texts"), (evaluate, "['image']")):
        with pytest.raises(SystemExit):
            cli.main(command)
        assert message in capsys.readouterr().err.splitlines()[-1]
