"""The tokens of prompts with images are those of transformers' processor."""

import numpy as np
import pytest

from data.images.patches import image_patches
from data.images.prompt import ImageTokens, with_pictures
from data.images.sources import Picture
from data.text.chat_template import ChatTemplate
from data.text.contents import sources
from tests.data.images.pictures import picture
from tests.data.images.talk import SPECIAL, TALKS, TEMPLATE, TIMES, VIDEO, said, shown, tokenizer
from tests.data.images.test_patches import golden  # noqa: F401  a fixture

IDS = tuple(SPECIAL[token] for token in ("<|image|>", "<|image>", "<image|>"))


def prompt(talk: list, frames: tuple[float, ...] = (), source: str | None = TEMPLATE) -> list[int]:
    words = tokenizer()
    text, pictures = ChatTemplate(words, source).render(talk), []
    for kind, number in sources(talk):
        patches = image_patches(picture(int(number)), 70)
        one = Picture(patches, len(patches.patches) // 9)
        times = [f"{int(time // 60):02d}:{int(time % 60):02d}" for time in frames]
        pictures.append([one] if kind == "image" else [one._replace(time=t) for t in times])
    return words.encode(with_pictures(text, pictures, ImageTokens.of(words, *IDS)))


@pytest.mark.parametrize("number", range(len(TALKS)))
def test_tokens_are_those_of_transformers(golden, number):  # noqa: F811
    assert prompt(TALKS[number]) == golden[f"talk{number}"].tolist()


def test_tokens_of_a_video_are_those_of_transformers(golden):  # noqa: F811
    assert prompt(VIDEO, TIMES) == golden["video"].tolist()


def test_without_a_template_images_stand_where_the_released_one_puts_them(golden):  # noqa: F811
    assert prompt(TALKS[1], source=None) == golden["talk1"].tolist()


def test_a_mention_of_a_token_is_no_image():
    talk = [{"role": "user", "content": [shown(0), said("What is <|image|>, and <|image>?")]}]
    found = np.array(prompt(talk))
    assert (found == IDS[0]).sum() == 63 and (found == IDS[1]).sum() == 1
    assert "What is <|image|>, and <|image>?" in tokenizer().decode(found)


def test_a_template_that_leaves_images_out_is_found():
    with pytest.raises(ValueError, match="writes 0 places for 3 images: it may be the template"):
        prompt(TALKS[1], source=TEMPLATE.replace("{{ '<|image|>' }}", ""))
    with pytest.raises(ValueError, match="writes 2 places for 1 images"):
        prompt(TALKS[0], source=TEMPLATE.replace("'<|image|>'", "'<|image|><|image|>'"))


def test_a_tokenizer_without_the_tokens_says_so():
    with pytest.raises(ValueError, match="no images can be shown: the tokenizer has no special"):
        ImageTokens.of(tokenizer(), 258_880, 255_999, 258_882)
    with pytest.raises(ValueError, match="no special token 20"):  # a character
        ImageTokens.of(tokenizer(), 20, 8, 10)
