"""The two sets of names of CLIP's weights, against the libraries that have them."""

import open_clip
import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from xpool.encoders.base import Encoder
from xpool.encoders.names import huggingface_names, openai_names
from xpool.project.errors import InputError


@pytest.fixture(scope="module")
def theirs():
    tower = {"num_attention_heads": 4, "projection_dim": 24, "hidden_act": "quick_gelu"}
    text = tower | {"hidden_size": 32, "intermediate_size": 128, "num_hidden_layers": 2}
    image = tower | {"hidden_size": 48, "intermediate_size": 192, "num_hidden_layers": 3}
    text |= {"vocab_size": 60, "max_position_embeddings": 12, "eos_token_id": 59}
    image |= {"image_size": 16, "patch_size": 8}
    torch.manual_seed(0)
    return CLIPModel(CLIPConfig(text_config=text, vision_config=image, projection_dim=24)).eval()


@pytest.fixture(scope="module")
def ours():
    image = {"image_size": 16, "layers": 3, "width": 48, "head_width": 12, "patch_size": 8}
    text = {"context_length": 12, "vocab_size": 60, "width": 32, "heads": 4, "layers": 2}
    return open_clip.CLIP(24, image, text, quick_gelu=True).eval()


def test_the_names_and_shapes_are_those_of_the_libraries(theirs, ours):
    for found, expected in (
        (openai_names(theirs.state_dict()), ours.state_dict()),
        (huggingface_names(ours.state_dict()), theirs.state_dict()),
    ):
        shapes = {name: value.shape for name, value in found.items()}
        assert shapes == {name: value.shape for name, value in expected.items()}


def test_there_and_back_gives_the_same_weights(theirs):
    back = huggingface_names(openai_names(theirs.state_dict()))
    for name, value in theirs.state_dict().items():
        assert torch.equal(back[name], value), name


def test_both_libraries_embed_alike_under_either_name(theirs, ours):
    ours.load_state_dict(openai_names(theirs.state_dict()))
    rng = torch.Generator().manual_seed(1)
    pixels = torch.randn(2, 3, 16, 16, generator=rng)
    tokens = torch.cat([torch.randint(59, (3, 11), generator=rng), torch.full((3, 1), 59)], dim=1)
    with torch.no_grad():
        image = theirs.get_image_features(pixel_values=pixels).pooler_output
        text = theirs.get_text_features(input_ids=tokens).pooler_output
        torch.testing.assert_close(ours.encode_image(pixels), image, rtol=0, atol=1e-5)
        torch.testing.assert_close(ours.encode_text(tokens), text, rtol=0, atol=1e-5)


def test_unknown_names_pass():
    assert huggingface_names({"visual.other": torch.ones(2, 3)})["visual.other"].shape == (2, 3)


def test_an_encoder_that_is_no_clip_refuses_weights_of_other_code_in_one_line():
    class Projection(Encoder):
        """What CONTRIBUTING's encoder has, and no more."""

        prepare = open = tokenize = token_counts = encode_text = encode_image = None
        text_transformer = encode_words = word_counts = None

    for asked in (Projection().openai_weights, lambda: Projection().take({})):
        with pytest.raises(InputError, match=r"Projection: has no weights.*set encoder\.library"):
            asked()
