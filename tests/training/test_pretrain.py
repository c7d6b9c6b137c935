"""Pretraining of the tiny CLIP: it learns, it repeats, and it sees neither motion nor twins."""

import filecmp
import json
import logging
import math
import re

import numpy as np
import open_clip
import pytest
import torch
from pydantic import ValidationError
from torch.nn import functional

from xpool.encoders.openclip import OpenClip
from xpool.mini import drawing, world
from xpool.training import pretrain as module
from xpool.training.pretrain import CYCLE, PretrainParams, pretrain, stills

SIZE = 48
PARAMS = {
    "seed": 0, "images": CYCLE, "steps": 8, "batch_size": 16,
    "lr": 2e-3, "weight_decay": 0.1, "warmup": 0.2,
}  # fmt: skip


@pytest.fixture(scope="module")
def made():
    return stills(CYCLE, SIZE, seed=0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory, made):
    """Two runs from one seed and one from another, on the same stills, which take the time."""
    folders = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "stills", lambda *_: made)
        for name, seed in (("one", 0), ("again", 0), ("other", 1)):
            folders[name] = tmp_path_factory.mktemp(name)
            pretrain(PretrainParams(**PARAMS | {"seed": seed}), folders[name])
    return folders


def test_stills_are_square_images_with_a_caption_each(made):
    pixels, captions = made
    assert pixels.shape == (CYCLE, 3, SIZE, SIZE)
    assert pixels.dtype == torch.uint8
    assert len(captions) == CYCLE
    assert pixels.float().std(dim=(1, 2, 3)).min() > 1  # none is blank


def test_stills_repeat_with_their_seed_and_change_with_it():
    one, again, other = (stills(16, SIZE, seed) for seed in (0, 0, 1))
    assert torch.equal(one[0], again[0])
    assert one[1] == again[1]
    assert one[1] != other[1]
    assert not torch.equal(one[0], other[0])


def test_captions_have_no_word_of_motion(made):
    phrases = [phrase for names in world.MOTIONS.values() for phrase in names]
    for caption in made[1]:
        assert not [p for p in phrases if re.search(rf"\b{re.escape(p)}\b", caption)], caption
    words = {word for phrase in phrases for word in phrase.split()}
    used = {word for caption in made[1] for word in caption.split()}
    assert words & used <= {"a", "and", "the"}


def test_no_batch_holds_two_stills_of_one_appearance(monkeypatch):
    """Read off what is drawn, not off the rows, so that both halves of the promise are tested."""
    drawn = []

    def scenes(count, rng):
        drawn.extend(draw(count, rng))
        return drawn

    draw = world.draw_scenes
    monkeypatch.setattr(world, "draw_scenes", scenes)
    monkeypatch.setattr(drawing, "still", lambda *_: np.zeros((1, 1, 3), np.uint8))
    params = PretrainParams(**PARAMS | {"images": 3 * CYCLE + 100, "steps": 200, "batch_size": 100})
    stills(params.images, SIZE, params.seed)
    appearances = [(s.shape, s.colour, s.background, s.count) for s in drawn]
    batches = module._batches(params)
    assert len(batches) == params.steps
    for rows in batches:
        assert len(rows) == params.batch_size
        assert len({appearances[row] for row in rows.tolist()}) == params.batch_size
    seen = {row for rows in batches for row in rows.tolist()}
    assert max(seen) < 3 * CYCLE
    assert len(seen) == 3 * CYCLE  # 200 batches are several passes, each in another order


def test_all_appearances_are_one_cycle():
    parts = world.SHAPES, world.COLOURS, world.BACKGROUNDS, world.COUNTS
    assert math.prod(map(len, parts)) == CYCLE


def test_same_seed_same_bytes_other_seed_other_weights(trained):
    for path in sorted(trained["one"].iterdir()):
        assert filecmp.cmp(path, trained["again"] / path.name, shallow=False)
    weights = "open_clip_model.safetensors"
    assert not filecmp.cmp(trained["one"] / weights, trained["other"] / weights, shallow=False)


def contrastive(encoder, made, rows):
    """Loss of one batch by another's code."""
    pixels, captions = made
    with torch.inference_mode():
        image = encoder.encode_image(encoder.normalise(pixels[rows].float() / 255))
        text = encoder.encode_text(encoder.tokenize([captions[row] for row in rows]))
        image, text = functional.normalize(image, dim=-1), functional.normalize(text, dim=-1)
        return open_clip.loss.ClipLoss()(image, text, torch.tensor(10.0)).item()


def test_a_few_steps_lower_the_loss(trained, made, tmp_path):
    config = json.loads(module.CONFIG.read_text())
    open_clip.add_model_config(module.CONFIG)
    torch.manual_seed(0)
    name = module.CONFIG.stem
    before = OpenClip(open_clip.create_model(name).eval(), open_clip.get_tokenizer(name))
    after = OpenClip.open(trained["one"]).eval()
    assert config["vision_cfg"]["image_size"] == after.size_px == SIZE
    rows = list(range(0, CYCLE, 8))
    assert contrastive(after, made, rows) < contrastive(before, made, rows) - 0.1


def test_without_unused_rows_a_model_computes_the_same(made):
    """Oracle: the whole model, with all rows of its tables, on the tokenizer's own tokens."""
    open_clip.add_model_config(module.CONFIG)
    torch.manual_seed(0)
    whole = open_clip.create_model(module.CONFIG.stem).double().eval()
    tokens = open_clip.get_tokenizer(module.CONFIG.stem)(made[1][:64])
    kept, numbers = module._used_rows(tokens)
    config = json.loads(module.CONFIG.read_text())
    cut = module._with_rows(whole, config, kept).double().eval()
    assert numbers.shape[1] < tokens.shape[1]
    assert len(kept["token_embedding.weight"]) < 150
    with torch.inference_mode():
        torch.testing.assert_close(cut.encode_text(numbers), whole.encode_text(tokens))


def test_a_step_is_that_of_the_whole_model_with_open_clips_own_loss(made, tmp_path, monkeypatch):
    """Oracle: one backward through all of the uncut model, in float64, and one plain AdamW step."""
    params = PretrainParams(**PARAMS | {"steps": 1, "warmup": 0.0, "weight_decay": 0.0})
    monkeypatch.setattr(module, "stills", lambda *_: made)
    pretrain(params, tmp_path)
    found = OpenClip.open(tmp_path).model.state_dict()

    pixels, captions = made
    open_clip.add_model_config(module.CONFIG)
    torch.manual_seed(module.seed_for("pretrain", "init", params.seed))
    model = open_clip.create_model(module.CONFIG.stem).double().train()
    began = {name: value.clone() for name, value in model.state_dict().items()}
    (rows,) = module._batches(params)
    tokens = open_clip.get_tokenizer(module.CONFIG.stem)([captions[row] for row in rows])
    image, text, scale = model(OpenClip(model, None).normalise(pixels[rows].double() / 255), tokens)
    open_clip.loss.ClipLoss()(image, text, scale).backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for name, weight in model.named_parameters():
        moved = (found[name].double() - began[name]).flatten()
        # the first step of Adam: the rate times the sign, where the gradient is above its epsilon
        clear = weight.grad.flatten().abs() > 1e-5
        expected = -params.lr * weight.grad.flatten().sign()
        assert clear.any() or name.endswith("in_proj_bias"), name
        torch.testing.assert_close(moved[clear], expected[clear], rtol=2e-3, atol=1e-6)


def test_rows_that_no_caption_uses_stay_as_they_began(trained, made):
    """Also a caption of motion, whose words it never saw, is embedded by the whole table."""
    encoder = OpenClip.open(trained["one"])
    torch.manual_seed(module.seed_for("pretrain", "init", 0))
    began = open_clip.create_model(module.CONFIG.stem)
    used = encoder.tokenize(made[1]).unique()
    moved = (encoder.model.token_embedding.weight != began.token_embedding.weight).any(dim=1)
    assert set(moved.nonzero().flatten().tolist()) == set(used.tolist())


def test_what_it_writes_is_the_tiny_model_with_quick_gelu(trained):
    encoder = OpenClip.open(trained["one"])
    assert encoder.dim == 64
    assert encoder.text_transformer().activation == "quick_gelu"
    assert encoder.text_transformer().heads == 2
    assert encoder.logit_scale.item() <= np.log(100)


def test_the_last_loss_is_logged_and_no_warning(made, tmp_path, monkeypatch, caplog):
    """open_clip warns of a model without pretrained weights; this one is about to get some."""
    monkeypatch.setattr(module, "stills", lambda *_: made)
    with caplog.at_level(logging.INFO):
        pretrain(PretrainParams(**PARAMS | {"steps": 1}), tmp_path)
    assert f"{CYCLE} stills, 1 steps, last loss" in caplog.text
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    caplog.clear()
    open_clip.create_model(module.CONFIG.stem)
    assert "No pretrained weights" in caplog.text, "others still see the warning"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("images", CYCLE - 1), ("batch_size", CYCLE + 1), ("batch_size", 1), ("steps", 0),
        ("lr", 0.0), ("weight_decay", -0.1), ("warmup", 1.0),
    ],
)  # fmt: skip
def test_values_that_could_never_train_are_refused(key, value):
    """Fewer stills than one cycle would never fill a batch, and the loop never end."""
    with pytest.raises(ValidationError, match=key):
        PretrainParams(**PARAMS | {key: value})
